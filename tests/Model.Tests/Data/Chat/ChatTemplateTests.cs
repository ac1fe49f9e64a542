using System.Text.Json;
using Krewe.Model.Data;
using Krewe.Model.Data.Chat;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Data.Chat;

public sealed class ChatTemplateTests
{
    private static readonly JsonDocument _golden =
        JsonDocument.Parse(File.ReadAllText(Path.Combine(TestData.GoldenFolder, "chat_templates.json")));

    private static ChatMessage[] Messages() =>
        [.. _golden.RootElement.GetProperty("messages").EnumerateArray()
            .Select(m => new ChatMessage(m.GetProperty("role").GetString()!, m.GetProperty("content").GetString()))];

    public static TheoryData<int> Cases() => [.. Enumerable.Range(0, _golden.RootElement.GetProperty("cases").GetArrayLength())];

    public static TheoryData<string> Errors() =>
        [.. _golden.RootElement.GetProperty("errors").EnumerateArray().Select(error => error.GetString()!)];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Rendering_equals_jinja(int index)
    {
        JsonElement golden = _golden.RootElement.GetProperty("cases")[index];
        ChatTemplate template = ChatTemplate.Parse(golden.GetProperty("template").GetString()!, "<s>", "</s>");
        Assert.Equal(golden.GetProperty("expected").GetString(), template.Apply(Messages(), addGenerationPrompt: true));
    }

    [Theory]
    [MemberData(nameof(Errors))]
    public void What_jinja_refuses_is_an_error_with_its_place(string source)
    {
        string message = Assert.Throws<KreweException>(() => ChatTemplate.Parse(source).Apply(Messages(), true)).Message;
        Assert.Matches("line 1, column \\d+: .", message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void An_error_names_line_and_column()
    {
        string message = Assert.Throws<KreweException>(() => ChatTemplate.Parse("a\nb {{ nope.x }}").Apply([], false)).Message;
        Assert.Equal("chat template 'template', line 2, column 10: 'nope', which is undefined, has no member x", message);
    }

    [Fact]
    public void Deep_nesting_is_an_error()
    {
        Assert.Throws<KreweException>(() => ChatTemplate.Parse("{{ " + new string('(', 200_000)));
        Assert.Throws<KreweException>(() => ChatTemplate.Parse("{{ " + string.Concat(Enumerable.Repeat("not ", 200_000)) + "1 }}"));
        Assert.Throws<KreweException>(() => ChatTemplate.Parse("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").Apply([], false));
    }

    [Fact]
    public void DeepSeekV3_writes_a_conversation()
    {
        ChatTemplate template = ChatTemplate.Load(SharedTokenizers.Folder("tokenizers/deepseek-v3"));
        Assert.Equal(
            "<｜begin▁of▁sentence｜>Be brief.\n\nAnd kind.<｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜><｜User｜>2+2?<｜Assistant｜>",
            template.Apply(
                [new("system", "Be brief."), new("user", "Hi"), new("system", "And kind."), new("assistant", "Hello"), new("user", "2+2?")],
                addGenerationPrompt: true));
        Assert.Equal("<｜begin▁of▁sentence｜><｜User｜>Hi", template.Apply([new("user", "Hi")], addGenerationPrompt: false));
    }

    [Fact]
    public void DeepSeekV3_writes_tool_calls()
    {
        ChatTemplate template = ChatTemplate.Load(SharedTokenizers.Folder("tokenizers/deepseek-v3"));
        ChatMessage calls = new("assistant", null) { ToolCalls = [new("1", "sum", "{\"a\": 1}"), new("2", "now", "{}")] };
        Assert.Equal(
            "<｜begin▁of▁sentence｜><｜User｜>Go<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>sum\n" +
            "```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>" +
            "<｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>3<｜tool▁output▁end｜>" +
            "\n<｜tool▁output▁begin｜>noon<｜tool▁output▁end｜><｜tool▁outputs▁end｜>",
            template.Apply(
                [new("user", "Go"), calls, new("tool", "3") { ToolCallId = "1" }, new("tool", "noon") { ToolCallId = "2" }],
                addGenerationPrompt: true));
    }

    [Fact]
    public void Docs26M_writes_a_conversation()
    {
        ChatTemplate template = ChatTemplate.Load(SharedTokenizers.Folder("checkpoints/docs-26m"));
        Assert.Equal(
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜>",
            template.Apply([new("system", "Be brief."), new("user", "Hi"), new("assistant", "Hello"), new("user", "Bye")], true));
    }

    [Fact]
    public void A_folder_may_hold_a_file_a_list_or_nothing()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("no chat template", Assert.Throws<KreweException>(() => ChatTemplate.Load(folder.Path)).Message);
        folder.Write("tokenizer_config.json",
            """{"eos_token":"</s>","chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d{{ eos_token }}"}]}""");
        Assert.Equal("d</s>", ChatTemplate.Load(folder.Path).Apply([], false));
        folder.Write("chat_template.jinja", "f{{ eos_token }}\r\n");
        Assert.Equal("f</s>", ChatTemplate.Load(folder.Path).Apply([], false));
    }

    [Fact]
    public void A_byte_tokenizer_saves_a_template()
    {
        using var folder = new TemporaryFolder();
        new ByteTokenizer().Save(folder.Path);
        Assert.Equal(
            "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Yo<｜end▁of▁sentence｜>",
            ChatTemplate.Load(folder.Path).Apply([new("user", "Hi"), new("assistant", "Yo")], false));
    }

    [Fact]
    public void Tools_are_given_to_the_template()
    {
        using JsonDocument tool = JsonDocument.Parse("""{"name":"sum","parameters":{"a":[1,2.5,null,true]}}""");
        ChatTemplate template = ChatTemplate.Parse("{% if tools %}{{ tools | tojson }}{% else %}none{% endif %}");
        Assert.Equal("""[{"name": "sum", "parameters": {"a": [1, 2.5, null, true]}}]""", template.Apply([], false, [tool.RootElement]));
        Assert.Equal("none", template.Apply([], false));
    }
}
