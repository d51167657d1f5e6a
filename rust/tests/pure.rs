//! Runs the unit tests of the modules that need neither Python nor a socket.
#![allow(dead_code)]

#[path = "../src/hpack.rs"]
mod hpack;

#[path = "../src/grpc.rs"]
mod grpc;

#[path = "../src/h2.rs"]
mod h2;

#[path = "../src/queue.rs"]
mod queue;

#[path = "../src/der.rs"]
mod der;

#[path = "../src/http.rs"]
mod http;

#[path = "../src/chunked.rs"]
mod chunked;
