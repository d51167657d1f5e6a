"""What clients see on the client port: gRPC services, the JSON gateway, health and metrics."""
