"""The v3 gRPC services. A handler decodes, validates and authorizes; the node does the rest."""
