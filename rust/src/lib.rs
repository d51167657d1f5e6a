use pyo3::prelude::*;

#[pymodule]
mod _transport {
    #[pymodule_export]
    const UNARY: u8 = 0;
}
