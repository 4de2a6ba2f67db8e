"""Generated protobuf and gRPC stubs of the wire API; scripts/proto makes them."""
