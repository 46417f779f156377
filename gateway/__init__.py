"""The data plane: request -> identify -> admit -> pick -> relay -> meter."""
