//! The machine that mines: which of its processors, how much of its memory, and how little its
//! threads matter to everybody else.

mod cores;
mod memory;
mod priority;
mod surplus;

pub use cores::for_mining;
pub use memory::{available_bytes, available_bytes_at, free_huge_bytes, total_bytes_at};
pub use priority::{LaneThread, pin, yield_to_all};
pub use surplus::Surplus;
