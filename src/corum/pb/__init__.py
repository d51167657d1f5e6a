"""etcd's protobuf messages: one module per .proto file of `protos/`.

`from corum.pb import rpc` builds the classes of rpc.proto (and of the files it imports) from
`descriptors.binpb`, nothing else. They live in a descriptor pool of our own, so a process that also
loads another package's etcd messages (etcd3, aetcd, ...) sees no conflict. `tools/gen_pb.py` writes
`descriptors.binpb` and the modules with their stubs.

| module | package | content |
|---|---|---|
| `kv` | mvccpb | KeyValue, Event |
| `rpc` | etcdserverpb | services and messages of the client port |
| `authpb`, `membershippb`, `leasepb` | the same | what is stored, and travels in the log |
| `lockpb`, `electionpb` | v3lockpb, v3electionpb | the concurrency services |
| `raft_internal`, `etcdserver` | etcdserverpb | entries of the log: v3, v2 (and WAL metadata) |
| `raftpb`, `walpb`, `snappb` | the same | peer messages, WAL records, .snap envelope |
| `health`, `reflection`, `reflection_v1alpha` | grpc.* | what generic gRPC tools ask for |

`wire` splices and reads messages by hand. A field's own docstring is etcd's rpc reference.
"""
