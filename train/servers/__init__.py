"""vLLM servers: started, watched, asked over HTTP, and the adapters that they load."""
