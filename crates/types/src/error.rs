//! What a caller does next: the classes that every error of Tidemill falls into.

/// The class of an error, by what the caller should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request is wrong: fix it. Nothing was proposed.
    Invalid,
    /// The request is well formed, but a fact of the state stands against it.
    Rejected,
    /// The thing asked for does not exist.
    NotFound,
    /// Not proposed: retry, after a pause. Only a check made before proposing may say so.
    Unavailable,
    /// Shed before any work was done, because of load: retry later.
    Overloaded,
    /// Proposed, and the outcome is not known: retry with the same request id.
    Unknown,
    /// Stored data is damaged: the partition is stopped on that node; call a person.
    Corrupt,
}
