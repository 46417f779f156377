"""The control plane: spec -> plan -> apply; observe -> decide -> scale."""
