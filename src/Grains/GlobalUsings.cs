global using Krewe.Grains.Interfaces;
global using Krewe.Grains.Interfaces.Devices;
global using Krewe.Grains.Interfaces.Experts;
global using Krewe.Grains.Interfaces.Pipeline;
global using Krewe.Grains.Interfaces.Training;
