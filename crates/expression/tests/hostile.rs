//! Expressions that mean harm end at a limit, soon, on a thread with an ordinary stack.

#![allow(
    clippy::disallowed_methods,
    reason = "measures time; the crate itself has none"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_expression::{EvaluateError, Expression, Limits, limits};

/// Generous, since this also runs unoptimised and beside other tests; `examples/cost.rs` measures.
const TIME_MAX: Duration = Duration::from_secs(5);

/// How the evaluation ends, within the time.
fn outcome(source: &str, input: &Value, limits: &Limits) -> Result<Option<Value>, EvaluateError> {
    let expression = Expression::parse(source).expect("the hostile expression parses");
    let start = Instant::now();
    let result = expression.evaluate(input, &[], limits);
    let elapsed = start.elapsed();
    let shown: String = source.chars().take(80).collect();
    assert!(elapsed < TIME_MAX, "{shown} took {elapsed:?}");
    result
}

#[test]
fn hostile_expressions_hit_a_limit() {
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(100), close.repeat(100));
    let cases: Vec<(&str, String)> = vec![
        ("endless recursion", "($f := function($n) { 1 + $f($n) }; $f(1))".into()),
        ("endless tail recursion", "($f := function($n) { $f($n + 1) }; $f(1))".into()),
        ("mutual tail recursion", "($f := function() { $g() }; $g := function() { $f() }; $f())".into()),
        ("tail recursion through conditions", "($f := function($n) { $n < 0 ? 1 : ($m := $n + 1; $f($m)) }; $f(1))".into()),
        ("a chain of closures", "($f := function($n, $g) { $f($n + 1, function() { $g() }) }; $f(1, function() { 1 }))".into()),
        ("a chain of partial applications", "($f := function($g) { $f($g(?)) }; $f(function($x) { $x }))".into()),
        ("a chain of ~>", "($f := function($g) { $f($g ~> $string) }; $f($string))".into()),
        ("fixed point combinator", "($u := function($x) { $x($x) }; $u($u))".into()),
        ("growing arguments", "($f := function($a) { $f($append($a, $a)) }; $f([1]))".into()),
        ("range", "[1..10000000]".into()),
        ("many ranges", "[1..1000].[1..1000].[1..1000]".into()),
        ("sum of a range", "$sum([1..9999999])".into()),
        ("string doubling", "($d := function($s, $n) { $n = 0 ? $s : $d($s & $s, $n - 1) }; $length($d('abcdefgh', 40)))".into()),
        ("reduce doubling", "$length($reduce([1..60], function($a, $b) { $a & $a }, 'abcdefgh'))".into()),
        ("wide pad", "$length($pad('x', 300000000))".into()),
        ("wider pad", "$pad('x', -1e300, 'é')".into()),
        ("many pads", "$map([1..9000], function($i) { $pad('x', 20000) })".into()),
        ("join of pads", "$length($join($map([1..9000], function($i) { $pad('x', 20000) })))".into()),
        ("replace by more", "$replace($pad('x', 20000, 'x'), 'x', $pad('y', 20000, 'y'))".into()),
        ("regex replace by more", "$replace($pad('x', 20000, 'x'), /x/, $pad('y', 20000, '$0'))".into()),
        ("split to characters", "$map([1..1000], function($i) { $split($pad('x', 10000), '') })".into()),
        ("regex that could backtrack", "$map([1..1000], function($i) { $contains($pad('a', 10000, 'a'), /(a|aa)+$|(a|b)*c/) })".into()),
        ("regex that scans to the end", "$count($match($pad('a', 500000, 'a'), /a[^z]*z|a/))".into()),
        ("regex with many states", "$match($pad('a', 100000, 'a'), /((a{1,15}b?){1,8}){1,4}/)".into()),
        ("nested maps", "$map([1..9000], function($x) { $map([1..9000], function($y) { $x * $y }) })".into()),
        ("nested reduce", "$reduce([1..9000], function($a, $x) { $reduce([1..9000], function($b, $y) { $b + $y }, 0) }, 0)".into()),
        ("sort with a slow order", "$sort([1..9000], function($a, $b) { $sum([1..$a]) > $sum([1..$b]) })".into()),
        ("order by", "[1..90000]^(>$)".into()),
        ("distinct objects", "$distinct($map([1..9000], function($x) { {'a': $x} }))".into()),
        ("shared arrays", "$string($reduce([1..60], function($a, $b) { [[$a], [$a]] }, 1))".into()),
        ("shared objects", "$string($reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1))".into()),
        ("shared objects as output", "$reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1)".into()),
        ("equality of shared objects", "($d := function() { $reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1) }; $d() = $d())".into()),
        ("descendants of shared objects", "$count($reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1).**)".into()),
        ("copy of shared objects", "$reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1) ~> |a|{'x': 1}|".into()),
        ("truth of shared arrays", "$reduce([1..60], function($a, $b) { [[$a], [$a]] }, 0) ? 1 : 2".into()),
        ("keys of shared arrays", "$keys($reduce([1..60], function($a, $b) { [[$a], [$a]] }, {'a': 1}))".into()),
        ("flattening of shared arrays", "{'a': $reduce([1..60], function($a, $b) { [[$a], [$a]] }, 1)}.*".into()),
        ("nothing but deep", "$reduce([1..100000], function($a, $b) { [[$a]] }, 1)".into()),
        ("deep objects", "$reduce([1..500], function($a, $b) { {'a': $a} }, 1)".into()),
        ("an update of itself", "{'a': 1} ~> |$|{'self': $}|".into()),
        ("group by many keys", "[1..90000]{$string($): $}".into()),
        ("tuples", "($l := [1..100]; $l@$a.$l@$b.$l@$c.{'a': $a})".into()),
        ("self join", "($l := [1..2000]; $l@$a.$l@$b[$a = $b].{'a': $a})".into()),
        ("filter with positions", "[1..3000][[1..3000]]".into()),
        ("zip", "$zip([1..90000], [1..90000], [1..90000])".into()),
        ("numbers as text", "$map([1..90000], function($x) { $string($x / 3) & $formatNumber($x, '#,##0.00') })".into()),
        ("nested blocks", format!("($f := function() {{ {} + $f() }}; $f())", nested("(", ")"))),
        ("many variables", {
            let binds: String = (0..4000).map(|index| format!("$v{index} := {index};")).collect();
            format!("({binds} $f := function($n) {{ $f($v0 + $v3999 + $nope) }}; $f(1))")
        }),
    ];
    for limits in [
        Limits::default(),
        Limits {
            steps: 1_000_000,
            ..Limits::default()
        },
    ] {
        for (name, source) in &cases {
            match outcome(source, &json!({"a": 1}), &limits) {
                Err(error) if error.is_limit() => {}
                other => panic!("{name}: {:.200}", format!("{other:?}")),
            }
        }
    }
}

#[test]
fn limits_of_the_transform_component_hold_too() {
    for source in [
        "($f := function($n) { 1 + $f($n) }; $f(1))",
        "$length($pad('x', 300000000))",
        "$string($reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1))",
        "$reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1)",
        "[1..9999999]",
    ] {
        let error = outcome(source, &json!(null), &Limits::transform()).expect_err(source);
        assert!(error.is_limit(), "{source}: {error}");
    }
}

#[test]
fn hostile_sources_are_refused() {
    let cases: Vec<(&str, String, &str)> = vec![
        ("too long", "1+".repeat(limits::SOURCE_BYTES_MAX), "TX0001"),
        (
            "brackets",
            format!("{}1{}", "(".repeat(20_000), ")".repeat(20_000)),
            "TX0003",
        ),
        ("open brackets", "[".repeat(60_000), "TX0003"),
        ("signs", format!("{}1", "-".repeat(60_000)), "TX0003"),
        ("conditions", "a?".repeat(30_000), "TX0003"),
        (
            "alternatives",
            format!("{}1", "a?1:".repeat(15_000)),
            "TX0003",
        ),
        ("defaults", format!("{}1", "a??".repeat(20_000)), "TX0003"),
        (
            "functions",
            format!("{}1{}", "function(){".repeat(3_000), "}".repeat(3_000)),
            "TX0003",
        ),
        (
            "calls of calls",
            format!("$f{}", "()".repeat(30_000)),
            "TX0003",
        ),
        ("sums", format!("1{}", "+1".repeat(30_000)), "TX0003"),
        (
            "assignments",
            format!("{}1", "$a:=".repeat(15_000)),
            "TX0003",
        ),
        (
            "filters in filters",
            format!("{}1{}", "a[".repeat(20_000), "]".repeat(20_000)),
            "TX0003",
        ),
        (
            "objects",
            format!("{}1{}", "{'a':".repeat(10_000), "}".repeat(10_000)),
            "TX0003",
        ),
        ("a large pattern", "/(a{1,1000}){1,1000}/".into(), "TX0005"),
        (
            "a deep pattern",
            format!("/{}a{}/", "(".repeat(10_000), ")".repeat(10_000)),
            "TX0005",
        ),
        ("a back-reference", r"/(a)\1/".into(), "TX0005"),
        ("look-ahead", "/a(?=b)/".into(), "TX0005"),
        (
            "many arguments",
            format!("$f({}1)", "1,".repeat(20_000)),
            "TX0006",
        ),
        (
            "a long signature",
            format!("function($a)<{}>{{1}}", "s".repeat(1_000)),
            "TX0004",
        ),
        (
            "many repetitions",
            "function($a)<x+x+x+x+>{1}".into(),
            "TX0004",
        ),
        ("randomness", "$random() > 0.5".into(), "TX0002"),
        ("shuffling", "$shuffle([1,2])".into(), "TX0002"),
        ("code in text", "$eval('1')".into(), "TX0002"),
    ];
    for (name, source, code) in cases {
        let start = Instant::now();
        let error = Expression::parse(&source)
            .err()
            .unwrap_or_else(|| panic!("{name} was parsed"));
        assert!(error.message.starts_with(code), "{name}: {error}");
        assert!(
            start.elapsed() < TIME_MAX,
            "{name} took {:?}",
            start.elapsed()
        );
    }
}

/// Long but flat sources are no harm, and are neither refused nor slow.
#[test]
fn long_flat_sources_are_parsed() {
    for source in [
        format!("a{}", ".a".repeat(30_000)),
        format!("a{}", "[0]".repeat(20_000)),
        format!("[{}1]", "1,".repeat(30_000)),
        format!("({}1)", "1;".repeat(30_000)),
        format!("1{}", "+1".repeat(400)),
        format!("{}1", "a?1:".repeat(100)),
    ] {
        let start = Instant::now();
        Expression::parse(&source).expect("a flat source parses");
        assert!(start.elapsed() < TIME_MAX, "took {:?}", start.elapsed());
    }
}

/// A name that the expression binds itself is its own affair.
#[test]
fn refused_functions_may_be_defined() {
    let found = outcome(
        "($random := function() { 4 }; $random())",
        &json!(null),
        &Limits::default(),
    );
    assert_eq!(found, Ok(Some(json!(4))));
}

/// Every nesting that the limits allow fits the stack of an ordinary thread, even unoptimised.
#[test]
fn the_deepest_allowed_recursion_fits_the_stack() {
    let limits = Limits {
        steps: 100_000_000,
        depth: u32::MAX,
        ..Limits::transform()
    };
    for source in [
        "($f := function($n) { 1 + $f($n + 1) }; $f(1))",
        "($f := function($n) { [$n.($f($n + 1))][0] }; $f(1))",
        "($f := function($n) { {'a': $n.{'b': $f($n + 1)}} }; $f(1))",
        "($f := function($n) { $map([$n], function($x) { 1 & $f($x) }) }; $f(1))",
        "($f := function($n) { $sort([1, 2], function($a, $b) { $f($n) > 1 }) }; $f(1))",
        "($f := function($n) { [1, 2]^($f($n)) }; $f(1))",
        "($f := function($n) { {'a': 1} ~> |$|{'b': $f($n)}| }; $f(1))",
        "($f := function($n) { $replace('a', /a/, function($m) { 'x' & $f($n) }) }; $f(1))",
        "($f := function($n) { ($o := {'a': 1}; $o.a@$x[$f($x)].($x)) }; $f(1))",
        "($f := function($n) { ($n)[$f($n) & '' = 'x'] }; $f(1))",
    ] {
        let error = outcome(source, &json!(null), &limits).expect_err(source);
        assert_eq!(error, EvaluateError::DepthLimit, "{source}");
    }
}
