// Writes when each kernel, copy and fill of a program ran on the GPU: a line each with start (ns), length (ns), stream,
// name, and grid or bytes, separated by tabs. It looks through CUPTI and does not serialise what it looks at.
//
//   cc -O2 -shared -fPIC -I CUDA/include -o kernel_trace.so kernel_trace.c CUDA/lib/libcupti.so -lpthread
//   CUDA_INJECTION64_PATH=$PWD/kernel_trace.so KREWE_TRACE=step.tsv krewe train --device cuda:0 ...
//   python3 kernel_trace.py step.tsv
#include <cupti.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFER_BYTES = 8 << 20 };

static FILE *output;
static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER;

static void CUPTIAPI give_buffer(uint8_t **buffer, size_t *size, size_t *most_records) {
  *buffer = aligned_alloc(8, BUFFER_BYTES);
  *size = *buffer ? BUFFER_BYTES : 0;
  *most_records = 0;
}

static void write_record(const CUpti_Activity *record) {
  switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const CUpti_ActivityKernel9 *kernel = (const CUpti_ActivityKernel9 *)record;
      fprintf(output, "%llu\t%llu\t%u\t%s\t%d,%d,%d\n", (unsigned long long)kernel->start,
              (unsigned long long)(kernel->end - kernel->start), kernel->streamId,
              kernel->name ? kernel->name : "unnamed", kernel->gridX, kernel->gridY, kernel->gridZ);
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const CUpti_ActivityMemcpy5 *copy = (const CUpti_ActivityMemcpy5 *)record;
      const char *name = copy->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_HTOD   ? "copy to device"
                         : copy->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOH ? "copy to host"
                                                                             : "copy on device";
      fprintf(output, "%llu\t%llu\t%u\t%s\t%llu\n", (unsigned long long)copy->start,
              (unsigned long long)(copy->end - copy->start), copy->streamId, name, (unsigned long long)copy->bytes);
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const CUpti_ActivityMemset4 *fill = (const CUpti_ActivityMemset4 *)record;
      fprintf(output, "%llu\t%llu\t%u\tfill of driver\t%llu\n", (unsigned long long)fill->start,
              (unsigned long long)(fill->end - fill->start), fill->streamId, (unsigned long long)fill->bytes);
      break;
    }
    default:
      break;
  }
}

static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
  (void)context, (void)stream, (void)size;
  CUpti_Activity *record = NULL;
  pthread_mutex_lock(&output_lock);
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) write_record(record);
  pthread_mutex_unlock(&output_lock);
  free(buffer);
}

static void finish(void) {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  fclose(output);
}

// Called by the driver when it starts. A program that starts others traces each into the same file, one after the other.
int InitializeInjection(void) {
  const char *path = getenv("KREWE_TRACE");
  if (!path || !(output = fopen(path, "a"))) {
    fprintf(stderr, "kernel_trace: set KREWE_TRACE to a file that can be written\n");
    return 1;
  }
  cuptiActivityRegisterCallbacks(give_buffer, take_buffer);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
  cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
  atexit(finish);
  return 1;
}
