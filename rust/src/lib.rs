//! The transport of corum: sockets, HTTP, gRPC framing, TLS and log writes for Python.
//!
//! Reading order: `transport` (what Python holds), `core` (the runtime thread), `conn` (one
//! socket), `loan` (how a lone answer avoids that thread), `server` and `h1` (what it says),
//! `channel`, `rpc_client` and `http_client` (the other direction). `h2`, `queue`, `hpack`,
//! `grpc`, `http`, `chunked` and `der` are pure, `records` serves clients. The boundary is `src/corum/_transport.pyi`.

mod calls;
mod channel;
mod chunked;
mod conn;
mod core;
mod crc;
mod der;
mod errors;
mod grpc;
mod h1;
mod h2;
mod hpack;
mod http;
mod http_client;
mod inbox;
mod io;
mod listener;
mod loan;
mod log_writer;
mod outbound;
mod peer;
mod queue;
mod records;
mod rpc_client;
mod server;
mod settings;
mod tls;
mod transport;

use pyo3::prelude::*;

#[pymodule]
fn _transport(module: &Bound<'_, PyModule>) -> PyResult<()> {
    use inbox::kind;
    for (name, kind) in [
        ("UNARY", kind::UNARY),
        ("STREAM_OPEN", kind::STREAM_OPEN),
        ("STREAM_MESSAGE", kind::STREAM_MESSAGE),
        ("STREAM_END", kind::STREAM_END),
        ("CANCELLED", kind::CANCELLED),
        ("WRITABLE", kind::WRITABLE),
        ("HTTP", kind::HTTP),
        ("HTTP_OPEN", kind::HTTP_OPEN),
        ("HTTP_CHUNK", kind::HTTP_CHUNK),
        ("HTTP_END", kind::HTTP_END),
        ("LOG_SYNCED", kind::LOG_SYNCED),
        ("POSTED", kind::POSTED),
        ("RESPONSE", kind::RESPONSE),
        ("RESPONSE_HEAD", kind::RESPONSE_HEAD),
        ("RESPONSE_MESSAGE", kind::RESPONSE_MESSAGE),
        ("RESPONSE_CHUNK", kind::RESPONSE_CHUNK),
        ("RESPONSE_END", kind::RESPONSE_END),
        ("DRAINED", kind::DRAINED),
    ] {
        module.add(name, kind)?;
    }
    module.add("TransportError", module.py().get_type::<errors::TransportError>())?;
    module.add("RpcError", errors::rpc_error(module.py())?)?;
    module.add_class::<settings::Settings>()?;
    module.add_class::<tls::ServerTls>()?;
    module.add_class::<tls::ClientTls>()?;
    module.add_class::<channel::ChannelSettings>()?;
    module.add_class::<channel::Handle>()?;
    module.add_class::<peer::Peer>()?;
    module.add_class::<listener::Listener>()?;
    module.add_class::<transport::Transport>()?;
    module.add_class::<log_writer::LogWriter>()?;
    module.add_class::<records::Records>()?;
    module.add_function(wrap_pyfunction!(crc::crc32c, module)?)?;
    module.add_function(wrap_pyfunction!(crc::crc32c_chain, module)?)?;
    Ok(())
}
