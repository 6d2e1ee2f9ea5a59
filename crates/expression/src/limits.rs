//! What an expression may use. Owns the numbers; must never hold a duration: the crate has no clock,
//! so time is bounded by counting work (fuel), which is the same on every machine and in every test.

/// Longest source text, in bytes. A whole mapping fits; a program does not.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of brackets, conditions and operands while parsing.
pub const PARSE_NESTING_MAX: u32 = 128;
/// Most arguments of one function call.
pub const ARGUMENTS_MAX: usize = 255;
/// Deepest syntax tree. Long chains such as `a & b & …` grow the tree without nesting the parser.
pub const SYNTAX_DEPTH_MAX: u32 = 512;
/// Deepest array or object that an expression may build, the same depth that `serde_json` reads.
pub const VALUE_DEPTH_MAX: u32 = 127;
/// Deepest recursion, whatever [`Limits::depth`] says: it takes less than 1 MiB of the thread's stack.
pub const DEPTH_MAX: u32 = 500;
/// Largest compiled regular expression, in bytes: it bounds the work for each byte of text.
pub const REGEX_BYTES_MAX: usize = 64 * 1024;
/// Largest cache that a regular expression may build while it matches, in bytes.
pub const REGEX_CACHE_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of text that one unit of fuel pays for.
pub(crate) const BYTES_PER_STEP: u64 = 16;
/// What one element of an array is taken to weigh, in bytes.
pub(crate) const ELEMENT_BYTES: usize = 32;
/// What one entry of an object is taken to weigh, in bytes, besides the text of its key.
pub(crate) const ENTRY_BYTES: usize = 80;
/// What an object of a result is taken to weigh, in bytes, besides its entries.
pub(crate) const OBJECT_BYTES: usize = 256;
/// What one call frame, variable or function object is taken to weigh, in bytes.
pub(crate) const FRAME_BYTES: usize = 128;

/// Limits of one evaluation. All of them are counted, none is measured, so the same expression on the
/// same input always ends in the same way.
///
/// The default fits an edge condition: it ends in single milliseconds, whatever the expression does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Fuel: each node evaluated, element visited or produced, and 16 bytes of text built costs one.
    pub steps: u64,
    /// Deepest nesting of evaluations, such as recursive calls that are not tail calls. One call of a
    /// function uses about three. At most [`DEPTH_MAX`] is used, so that the thread's stack suffices.
    pub depth: u32,
    /// Most bytes that all values built on the way, and the result, may weigh together.
    pub memory_bytes: usize,
    /// Largest result, in bytes of JSON text.
    pub output_bytes: usize,
    /// The time that `$now()` and `$millis()` give, in milliseconds since 1970-01-01T00:00:00Z. Without
    /// it both fail: the evaluator itself never reads a clock.
    pub now_ms: Option<i64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: 100_000,
            depth: 200,
            memory_bytes: 8 * 1024 * 1024,
            output_bytes: 64 * 1024,
            now_ms: None,
        }
    }
}

impl Limits {
    /// Limits for the `transform` component, which maps whole messages: seconds at worst, not milliseconds.
    #[must_use]
    pub fn transform() -> Self {
        Self {
            steps: 5_000_000,
            depth: 400,
            memory_bytes: 256 * 1024 * 1024,
            output_bytes: 16 * 1024 * 1024,
            now_ms: None,
        }
    }

    /// The same limits with a time for `$now()` and `$millis()`.
    #[must_use]
    pub fn at(mut self, now_ms: i64) -> Self {
        self.now_ms = Some(now_ms);
        self
    }
}
