"""How a prompt becomes a reply: one module per kind of runtime. `runtime.py` is what each of them fits."""
