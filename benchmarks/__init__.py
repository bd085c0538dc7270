"""Speed and memory beside other libraries; each module is a command."""
