//! placeholder
use crate::conn::{Ctx, Next};
use crate::core::Core;
use crate::outbound::Command;
use std::time::Duration;
pub struct RpcClient {}
impl RpcClient {
    pub fn input(&mut self, _: &mut Ctx<'_>, _: &mut &[u8]) -> Next {
        Next::Close
    }
    pub fn pump(&mut self, _: &mut Ctx<'_>) {}
    pub fn perform(&mut self, _: &mut Ctx<'_>, _: u32, _: u64, _: Command, _: &[u8]) -> Next {
        Next::Go
    }
    pub fn deadline(&mut self, _: &mut Ctx<'_>, _: u32, _: u64) -> Next {
        Next::Go
    }
    pub fn keepalive(&self) -> (Option<Duration>, Duration) {
        (None, Duration::ZERO)
    }
    pub fn gone(&mut self, _: &Core) {}
    pub fn failed(&mut self, _: String) {}
    pub fn ping(&mut self, _: &mut Vec<u8>) {}
}
pub struct HttpClient {}
impl HttpClient {
    pub fn input(&mut self, _: &mut Ctx<'_>, _: &mut &[u8]) -> Next {
        Next::Close
    }
    pub fn perform(&mut self, _: &mut Ctx<'_>, _: u64, _: Command, _: &[u8]) -> Next {
        Next::Go
    }
    pub fn deadline(&mut self, _: &mut Ctx<'_>, _: u64) -> Next {
        Next::Go
    }
    pub fn gone(&mut self, _: &Core) {}
    pub fn failed(&mut self, _: String) {}
    pub fn on_end(&mut self, _: &Core) {}
    pub fn on_sent(&mut self, _: &Core, _: usize) {}
    pub fn wants_more(&self) -> bool {
        true
    }
}
