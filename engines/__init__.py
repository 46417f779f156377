"""What an engine is: launch plans, load signals, and Penstock's own Hugging Face engine server."""
