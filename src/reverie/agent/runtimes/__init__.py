"""How a prompt becomes a reply: one module per kind of runtime."""
