"""The command line: one verb, one file. A verb parses, calls and prints; what it does lives in the rooms below."""
