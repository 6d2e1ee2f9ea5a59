//! Why an epoch ended.

use tidemill_core::Damage;
use tidemill_replica::ProposeError;

use super::poison::Panic;

/// Why an epoch ended.
pub(super) enum End {
    NotBegun(ProposeError),
    LostLeadership,
    Failed(ProposeError),
    Damaged(Damage),
    Panicked(Panic),
    /// Another epoch has begun, here or elsewhere: what this one read may be the other's rows.
    Superseded,
    Stopping,
}

impl End {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NotBegun(_) => "not begun",
            Self::LostLeadership => "leadership lost",
            Self::Failed(_) => "proposal failed",
            Self::Damaged(_) => "rows damaged",
            Self::Panicked(_) => "logic panicked",
            Self::Superseded => "another epoch has begun",
            Self::Stopping => "stopping",
        }
    }
}
