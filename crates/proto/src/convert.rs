//! From stored rows to messages of the API and back, where both say the same.
//!
//! Only shapes are translated; whether a value is allowed is checked by whoever takes it.

mod execution;
mod flow;
mod message;
mod time;

pub use execution::{
    execution, execution_state, execution_state_filter, step, step_error, step_error_row,
    step_state,
};
pub use flow::{FlowText, flow, flow_status, flow_status_filter, flow_version};
pub use message::{message, message_row};
pub use time::{timestamp, timestamp_from};
