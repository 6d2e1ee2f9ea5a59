//! The components that the server runs itself.

/// A component that is run inside the server; its name is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Builtin {
    /// Calls an HTTP service.
    Http,
    /// Evaluates an expression on the message.
    Transform,
    /// Waits, then gives the message that it got.
    Wait,
    /// Answers the webhook request that started the execution.
    Respond,
    /// Runs another flow.
    Subflow,
    /// Writes a line to the execution's log, then gives the message that it got.
    Log,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Builtin; 6] = [
        Builtin::Http,
        Builtin::Transform,
        Builtin::Wait,
        Builtin::Respond,
        Builtin::Subflow,
        Builtin::Log,
    ];

    /// The built-in component that a document's `componentId` names.
    pub fn from_component(component: &str) -> Option<Builtin> {
        Builtin::ALL
            .into_iter()
            .find(|builtin| builtin.component() == component)
    }

    /// The name that a document's `componentId` has.
    pub const fn component(self) -> &'static str {
        match self {
            Builtin::Http => "http",
            Builtin::Transform => "transform",
            Builtin::Wait => "wait",
            Builtin::Respond => "respond",
            Builtin::Subflow => "subflow",
            Builtin::Log => "log",
        }
    }

    /// Its one function.
    pub const fn function(self) -> &'static str {
        match self {
            Builtin::Http => "request",
            Builtin::Transform => "jsonata",
            Builtin::Wait => "delay",
            Builtin::Respond => "reply",
            Builtin::Subflow => "run",
            Builtin::Log => "write",
        }
    }

    /// Whether this server runs it. A flow with one that is not run may be published, but not started.
    pub const fn is_served(self) -> bool {
        match self {
            Builtin::Transform | Builtin::Wait | Builtin::Respond | Builtin::Log => true,
            Builtin::Http | Builtin::Subflow => false,
        }
    }
}
