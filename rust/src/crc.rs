//! CRC-32C for the log's records.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// CRC-32C (Castagnoli) of `data`, continuing from the value `crc`.
#[pyfunction]
#[pyo3(signature = (data, crc = 0, /))]
pub fn crc32c(data: &[u8], crc: u32) -> u32 {
    ::crc32c::crc32c_append(crc, data)
}

/// The running value after each part.
#[pyfunction]
#[pyo3(signature = (parts, crc, /))]
pub fn crc32c_chain(parts: Vec<PyBackedBytes>, crc: u32) -> Vec<u32> {
    let mut running = crc;
    let step = |part: &PyBackedBytes| {
        running = ::crc32c::crc32c_append(running, part);
        running
    };
    parts.iter().map(step).collect()
}
