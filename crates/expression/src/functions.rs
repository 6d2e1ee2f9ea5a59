//! The library of functions, by family. Each pays for its work before doing it. Must hold no function that
//! could give another result another time: those are refused by the parser, or take what they need from the
//! limits.

mod aggregate;
mod array;
mod encoding;
mod format_number;
mod higher_order;
mod matching;
mod numeric;
mod object;
mod string;
mod time;

use std::fmt;
use std::sync::LazyLock;

use crate::error::Result;
use crate::evaluator::{Arguments, Evaluator};
use crate::signature::Signature;
use crate::value::Value;

type Call = for<'a> fn(&mut Evaluator<'a>, Arguments<'a>) -> Result<Value<'a>>;

/// A function of the library.
pub(crate) struct Builtin {
    pub name: &'static str,
    pub signature: Signature,
    /// How many arguments a function such as `$map` passes to it.
    pub arity: usize,
    pub call: Call,
}

impl fmt::Debug for Builtin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Builtin").field(&self.name).finish()
    }
}

/// The function called `name`, without its `$`.
pub(crate) fn find(name: &str) -> Option<&'static Builtin> {
    let index = BUILTINS
        .binary_search_by(|builtin| builtin.name.cmp(name))
        .ok()?;
    BUILTINS.get(index)
}

static BUILTINS: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    let mut builtins: Vec<Builtin> = table()
        .into_iter()
        .map(|(name, signature, arity, call)| Builtin {
            name,
            signature: Signature::parse(signature)
                .expect("the signatures of the library are well formed"),
            arity,
            call,
        })
        .collect();
    builtins.sort_by_key(|builtin| builtin.name);
    builtins
});

fn table() -> Vec<(&'static str, &'static str, usize, Call)> {
    vec![
        ("abs", "<n-:n>", 1, numeric::abs),
        ("append", "<xx:a>", 2, array::append),
        ("assert", "<bs?:x>", 2, object::assert),
        ("average", "<a<n>:n>", 1, aggregate::average),
        ("base64decode", "<s-:s>", 1, encoding::base64_decode),
        ("base64encode", "<s-:s>", 1, encoding::base64_encode),
        ("boolean", "<x-:b>", 1, object::boolean),
        ("ceil", "<n-:n>", 1, numeric::ceil),
        ("clone", "<(oa)-:o>", 1, object::clone),
        ("contains", "<s-(sf):b>", 2, matching::contains),
        ("count", "<a:n>", 1, aggregate::count),
        ("decodeUrl", "<s-:s>", 1, encoding::decode_url),
        (
            "decodeUrlComponent",
            "<s-:s>",
            1,
            encoding::decode_url_component,
        ),
        ("distinct", "<x:x>", 1, array::distinct),
        ("each", "<o-f:a>", 2, higher_order::each),
        ("encodeUrl", "<s-:s>", 1, encoding::encode_url),
        (
            "encodeUrlComponent",
            "<s-:s>",
            1,
            encoding::encode_url_component,
        ),
        ("error", "<s?:x>", 1, object::error),
        ("exists", "<x:b>", 1, object::exists),
        ("filter", "<af>", 2, higher_order::filter),
        ("floor", "<n-:n>", 1, numeric::floor),
        ("formatBase", "<n-n?:s>", 2, numeric::format_base),
        ("formatNumber", "<n-so?:s>", 3, format_number::format_number),
        ("fromMillis", "<n-s?s?:s>", 3, time::from_millis),
        ("join", "<a<s>s?:s>", 2, string::join),
        ("keys", "<x-:a<s>>", 1, object::keys),
        ("length", "<s-:n>", 1, string::length),
        ("lookup", "<x-s:x>", 2, object::lookup),
        ("lowercase", "<s-:s>", 1, string::lowercase),
        ("map", "<af>", 2, higher_order::map),
        ("match", "<s-f<s:o>n?:a<o>>", 3, matching::find_matches),
        ("max", "<a<n>:n>", 1, aggregate::max),
        ("merge", "<a<o>:o>", 1, object::merge),
        ("millis", "<:n>", 0, time::millis),
        ("min", "<a<n>:n>", 1, aggregate::min),
        ("not", "<x-:b>", 1, object::not),
        ("now", "<s?s?:s>", 2, time::now),
        ("number", "<(nsb)-:n>", 1, numeric::number),
        ("pad", "<s-ns?:s>", 3, string::pad),
        ("power", "<n-n:n>", 2, numeric::power),
        ("reduce", "<afj?:j>", 3, higher_order::reduce),
        ("replace", "<s-(sf)(sf)n?:s>", 4, matching::replace),
        ("reverse", "<a:a>", 1, array::reverse),
        ("round", "<n-n?:n>", 2, numeric::round),
        ("sift", "<o-f?:o>", 2, higher_order::sift),
        ("single", "<af?>", 2, higher_order::single),
        ("sort", "<af?:a>", 2, higher_order::sort),
        ("split", "<s-(sf)n?:a<s>>", 3, matching::split),
        ("spread", "<x-:a<o>>", 1, object::spread),
        ("sqrt", "<n-:n>", 1, numeric::sqrt),
        ("string", "<x-b?:s>", 1, string::string),
        ("substring", "<s-nn?:s>", 3, string::substring),
        ("substringAfter", "<s-s:s>", 2, string::substring_after),
        ("substringBefore", "<s-s:s>", 2, string::substring_before),
        ("sum", "<a<n>:n>", 1, aggregate::sum),
        ("toMillis", "<s-s?:n>", 2, time::to_millis),
        ("trim", "<s-:s>", 1, string::trim),
        ("type", "<x:s>", 1, object::kind),
        ("uppercase", "<s-:s>", 1, string::uppercase),
        ("zip", "<a+>", 0, array::zip),
    ]
}
