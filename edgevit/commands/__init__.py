"""The commands of the program, one a file: options in, a call of `edgevit.api`, the result shown."""
