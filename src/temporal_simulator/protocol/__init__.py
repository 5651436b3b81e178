"""What server and worker share: history events, commands, start parameters, and the interfaces between them."""
