"""The offline default: a small grammar, a small host pretrained on its text, and a task made by the same grammar."""
