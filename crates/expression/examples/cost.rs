//! What expressions cost: conditions as they are written, and hostile ones until they hit a limit.
//!     cargo run --release -p tidemill-expression --example cost

#![allow(
    clippy::disallowed_methods,
    reason = "measures time; the crate itself has none"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_expression::{Expression, Limits};

const CONDITIONS: [&str; 6] = [
    "amount > 0",
    "customer.address.city = 'Hamburg' and amount >= 100",
    "$count(lines[quantity > 1]) > 0",
    "$sum(lines.(price * quantity)) > 100",
    "$contains(customer.email, /@example\\.org$/)",
    "status in ['open', 'paid'] and $exists(customer.id)",
];

const HOSTILE: [&str; 16] = [
    "($f := function($n) { 1 + $f($n) }; $f(1))",
    "($f := function($n) { $f($n + 1) }; $f(1))",
    "($f := function($n, $g) { $f($n + 1, function() { $g() }) }; $f(1, function() { 1 }))",
    "[1..10000000]",
    "$length($reduce([1..60], function($a, $b) { $a & $a }, 'abcdefgh'))",
    "$pad('x', 300000000)",
    "$map([1..9000], function($i) { $pad('x', 20000) })",
    "$map([1..9000], function($x) { $map([1..9000], function($y) { $x * $y }) })",
    "$map([1..1000], function($i) { $contains($pad('a', 10000, 'a'), /(a|aa)+$|(a|b)*c/) })",
    "$count($match($pad('a', 500000, 'a'), /a[^z]*z|a/))",
    "$match($pad('a', 100000, 'a'), /((a{1,15}b?){1,8}){1,4}/)",
    "$match($pad('a', 10000, 'ab'), /(a?b?){20}(\\w)/)",
    "$string($reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1))",
    "$reduce([1..60], function($a, $b) { {'a': $a, 'b': $a} }, 1)",
    "$distinct($map([1..9000], function($x) { {'a': $x} }))",
    "($l := [1..100]; $l@$a.$l@$b.$l@$c.{'a': $a})",
];

fn main() {
    let line = json!({"sku": "a-1", "quantity": 2, "price": 19.99, "text": "x".repeat(100)});
    let message = json!({
        "amount": 120, "status": "open", "lines": vec![line; 20],
        "customer": {"id": 7, "email": "ada@example.org", "address": {"city": "Hamburg"}},
    });
    println!(
        "conditions on a message of {} bytes",
        message.to_string().len()
    );
    for source in CONDITIONS {
        let expression = Expression::parse(source).expect("the condition parses");
        let limits = Limits::default();
        let count = 20_000;
        let start = Instant::now();
        for _ in 0..count {
            expression
                .evaluate_condition(&message, &[], &limits)
                .expect("the condition holds or not");
        }
        println!("{:>10.2?}  {source}", start.elapsed() / count);
    }
    for (name, limits) in [
        ("condition", Limits::default()),
        ("transform", Limits::transform()),
    ] {
        println!("hostile expressions with the limits of a {name}");
        for source in HOSTILE {
            println!("{}", hostile(source, &limits));
        }
    }
}

fn hostile(source: &str, limits: &Limits) -> String {
    let expression = Expression::parse(source).expect("the expression parses");
    let mut longest = Duration::ZERO;
    let mut outcome = String::new();
    for _ in 0..3 {
        let start = Instant::now();
        let result = expression.evaluate(&Value::Null, &[], limits);
        longest = longest.max(start.elapsed());
        outcome = result.map_or_else(|error| error.to_string(), |_| "a result".to_owned());
    }
    format!("{longest:>10.2?}  {source}: {outcome}")
}
