//! A Pratt parser that builds the finished tree in one pass. Owns the grammar and the limits on nesting;
//! must never recurse deeper than [`PARSE_NESTING_MAX`] allows, whatever the source says.

mod ancestry;
mod build;
mod forms;

use crate::ast::{Kind, Node, Operator, Tree};
use crate::error::ParseError;
use crate::functions::{self, Builtin};
use crate::limits::{PARSE_NESTING_MAX, SOURCE_BYTES_MAX, SYNTAX_DEPTH_MAX};
use crate::pattern::Pattern;
use crate::tokenizer::{Token, Tokenizer};
use ancestry::Ancestry;
use build::deepest;

type Result<T> = std::result::Result<T, ParseError>;

/// Functions of JSONata that are not available here, and why.
const REFUSED: [(&str, &str); 5] = [
    (
        "random",
        "an expression must give the same result each time",
    ),
    (
        "shuffle",
        "an expression must give the same result each time",
    ),
    ("eval", "expressions are checked before they run"),
    (
        "formatInteger",
        "number pictures other than those of $formatNumber are not supported",
    ),
    ("parseInteger", "number pictures are not supported"),
];

/// What was written, as far as it decides how the next token is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Name,
    Variable,
    Focus,
    Other,
}

/// A node and how it was written.
struct Parsed {
    node: Box<Node>,
    written: Written,
    /// Filters followed what was written.
    filtered: bool,
}

impl From<Box<Node>> for Parsed {
    fn from(node: Box<Node>) -> Self {
        Self {
            node,
            written: Written::Other,
            filtered: false,
        }
    }
}

/// Parses a whole source text.
pub(crate) fn parse(source: &str) -> Result<Tree> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!(
            "TX0001: the expression has {} bytes, at most {SOURCE_BYTES_MAX} are allowed",
            source.len()
        );
        return Err(ParseError::new(0, message));
    }
    let mut parser = Parser {
        tokenizer: Tokenizer::new(source),
        token: Token::End,
        position: 0,
        nesting: 0,
        ancestry: Ancestry::default(),
        bound: Vec::new(),
        refused: Vec::new(),
    };
    parser.advance(false)?;
    let root = parser.expression(0)?.node;
    if parser.token != Token::End {
        let message = format!("S0201: {} is not expected here", describe(&parser.token));
        return Err(ParseError::new(parser.position, message));
    }
    parser.ancestry.check_root(&root)?;
    for (name, reason, position) in &parser.refused {
        if !parser.bound.iter().any(|bound| bound == name) {
            return Err(ParseError::new(
                *position,
                format!("TX0002: ${name} is not supported: {reason}"),
            ));
        }
    }
    Ok(Tree {
        root,
        labels: parser.ancestry.labels(),
    })
}

struct Parser {
    tokenizer: Tokenizer,
    token: Token,
    position: usize,
    nesting: u32,
    ancestry: Ancestry,
    /// Names that the source itself binds: they may hide a function that is refused.
    bound: Vec<String>,
    refused: Vec<(&'static str, &'static str, usize)>,
}

impl Parser {
    /// Reads the next token. `infix` says that an operand has just ended.
    fn advance(&mut self, infix: bool) -> Result<()> {
        (self.token, self.position) = self.tokenizer.next(infix)?;
        if let Token::Operator(operator @ ("!" | "~")) = self.token {
            let message = format!("S0204: unknown operator `{operator}`");
            return Err(ParseError::new(self.position, message));
        }
        Ok(())
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.token, Token::Operator(found) if found == operator)
    }

    fn expect(&mut self, operator: &str, infix: bool) -> Result<()> {
        if self.is(operator) {
            return self.advance(infix);
        }
        let message = match &self.token {
            Token::End => format!("S0203: expected `{operator}` before the end of the expression"),
            found => format!("S0202: expected `{operator}`, found {}", describe(found)),
        };
        Err(ParseError::new(self.position, message))
    }

    fn expression(&mut self, right_power: u32) -> Result<Parsed> {
        self.nesting += 1;
        if self.nesting > PARSE_NESTING_MAX {
            return Err(too_deep(PARSE_NESTING_MAX, self.position));
        }
        let (token, position) = (
            std::mem::replace(&mut self.token, Token::End),
            self.position,
        );
        self.advance(true)?;
        let mut left = self.prefix(token, position)?;
        while right_power < power(&self.token) {
            check_depth(&left.node)?;
            let (token, position) = (
                std::mem::replace(&mut self.token, Token::End),
                self.position,
            );
            self.advance(false)?;
            left = self.infix(left, token, position)?;
        }
        check_depth(&left.node)?;
        self.nesting -= 1;
        Ok(left)
    }

    /// An operand, or an operator in front of one.
    fn prefix(&mut self, token: Token, position: usize) -> Result<Parsed> {
        let kind = match token {
            Token::Name(name) => return Ok(name_path(name, position)),
            Token::Operator(name @ ("and" | "or" | "in")) => {
                return Ok(name_path(name.to_owned(), position));
            }
            Token::Variable(name) => return Ok(self.variable(name, position)),
            Token::String(text) => Kind::String(text),
            Token::Number(number) => Kind::Number(number),
            Token::Bool(flag) => Kind::Bool(flag),
            Token::Null => Kind::Null,
            Token::Regex(pattern, flags) => {
                Kind::Regex(Box::new(Pattern::compile(&pattern, &flags, position)?))
            }
            Token::Operator("*") => Kind::Wildcard,
            Token::Operator("**") => Kind::Descendant,
            Token::Operator("%") => Kind::Parent(self.ancestry.add()),
            Token::Operator("-") => return self.negate(position),
            Token::Operator("(") => return self.block(position),
            Token::Operator("[") => return self.array(position),
            Token::Operator("{") => return self.object(position),
            Token::Operator("|") => return self.transform(position),
            Token::End => {
                return Err(ParseError::new(
                    position,
                    "S0207: unexpected end of the expression",
                ));
            }
            other @ Token::Operator(_) => {
                let message = format!(
                    "S0211: {} cannot stand at the start of an operand",
                    describe(&other)
                );
                return Err(ParseError::new(position, message));
            }
        };
        Ok(Node::new(kind, position).into())
    }

    fn variable(&mut self, name: String, position: usize) -> Parsed {
        if let Some((refused, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            self.refused.push((refused, reason, position));
        }
        let builtin: Option<&'static Builtin> = functions::find(&name);
        let node = Node::new(Kind::Variable { name, builtin }, position);
        Parsed {
            node,
            written: Written::Variable,
            filtered: false,
        }
    }

    fn negate(&mut self, position: usize) -> Result<Parsed> {
        let mut operand = self.expression(70)?.node;
        if let Kind::Number(number) = &mut operand.kind {
            *number = -*number;
            return Ok(operand.into());
        }
        let mut node = Node::new(Kind::Null, position);
        node.depth = operand.depth + 1;
        self.ancestry.inherit(&mut node, &operand);
        node.kind = Kind::Negate(operand);
        Ok(node.into())
    }

    fn block(&mut self, position: usize) -> Result<Parsed> {
        let mut node = Node::new(Kind::Null, position);
        let mut expressions = Vec::new();
        while !self.is(")") {
            let part = self.expression(0)?.node;
            self.ancestry.inherit(&mut node, &part);
            let starts_constructed = match &part.kind {
                Kind::Path { steps, .. } => steps.first().is_some_and(|step| step.constructed),
                _ => false,
            };
            node.constructed |= part.constructed || starts_constructed;
            expressions.push(*part);
            if !self.is(";") {
                break;
            }
            self.advance(false)?;
        }
        self.expect(")", true)?;
        node.depth = deepest(&expressions) + 1;
        node.kind = Kind::Block(expressions);
        Ok(node.into())
    }

    fn array(&mut self, position: usize) -> Result<Parsed> {
        let mut node = Node::new(Kind::Null, position);
        let mut items = Vec::new();
        if !self.is("]") {
            loop {
                let mut item = self.expression(0)?.node;
                if self.is("..") {
                    let at = self.position;
                    self.advance(false)?;
                    let right = self.expression(0)?.node;
                    item = self.binary(Operator::Range, item, right, at);
                }
                self.ancestry.inherit(&mut node, &item);
                items.push(*item);
                if !self.is(",") {
                    break;
                }
                self.advance(false)?;
            }
        }
        self.expect("]", true)?;
        node.depth = deepest(&items) + 1;
        node.kind = Kind::Array(items);
        Ok(node.into())
    }

    fn object(&mut self, position: usize) -> Result<Parsed> {
        let group = self.pairs()?;
        let mut node = Node::new(Kind::Null, position);
        for (key, value) in &group.pairs {
            self.ancestry.inherit(&mut node, key);
            self.ancestry.inherit(&mut node, value);
            node.depth = node.depth.max(key.depth.max(value.depth) + 1);
        }
        node.kind = Kind::Object(group);
        Ok(node.into())
    }

    fn pairs(&mut self) -> Result<crate::ast::Group> {
        let mut pairs = Vec::new();
        if !self.is("}") {
            loop {
                let key = self.expression(0)?.node;
                self.expect(":", false)?;
                let value = self.expression(0)?.node;
                pairs.push((*key, *value));
                if !self.is(",") {
                    break;
                }
                self.advance(false)?;
            }
        }
        self.expect("}", true)?;
        Ok(crate::ast::Group { pairs })
    }

    fn transform(&mut self, position: usize) -> Result<Parsed> {
        let pattern = self.expression(0)?.node;
        self.expect("|", false)?;
        let update = self.expression(0)?.node;
        let mut delete = None;
        if self.is(",") {
            self.advance(false)?;
            delete = Some(*self.expression(0)?.node);
        }
        self.expect("|", false)?;
        let depth = pattern
            .depth
            .max(update.depth)
            .max(delete.as_ref().map_or(0, |node| node.depth))
            + 1;
        let transform = crate::ast::Transform {
            pattern: *pattern,
            update: *update,
            delete,
        };
        let mut node = Node::new(Kind::Transform(Box::new(transform)), position);
        node.depth = depth;
        Ok(node.into())
    }

    /// What follows an operand.
    fn infix(&mut self, left: Parsed, token: Token, position: usize) -> Result<Parsed> {
        let Token::Operator(operator) = token else {
            unreachable!("only operators bind to their left");
        };
        match operator {
            "." => {
                let right = self.expression(75)?;
                self.dot(left.node, right.node)
            }
            "[" => self.bracket(left, position),
            "{" => self.group(left.node, position),
            "(" => self.call(left, position),
            "^" => self.sort(left.node, position),
            "?" => self.condition(left.node, position),
            "?:" | "??" => {
                let right = self.expression(0)?.node;
                let mut node = Node::new(Kind::Null, position);
                node.depth = left.node.depth.max(right.depth) + 1;
                self.ancestry.inherit(&mut node, &left.node);
                self.ancestry.inherit(&mut node, &right);
                let (left, right) = (left.node, right);
                node.kind = if operator == "?:" {
                    Kind::Elvis { left, right }
                } else {
                    Kind::Coalesce { left, right }
                };
                Ok(node.into())
            }
            ":=" => self.bind(left, position),
            "@" => self.focus(left.node, position),
            "#" => self.index(left.node, position),
            "~>" => {
                let right = self.expression(40)?.node;
                let mut node = Node::new(Kind::Null, position);
                node.depth = left.node.depth.max(right.depth) + 1;
                node.keep_array = left.node.keep_array || right.keep_array;
                node.kind = Kind::Apply {
                    left: left.node,
                    right,
                };
                Ok(node.into())
            }
            _ => {
                let (kind, power) = binary_operator(operator);
                let right = self.expression(power)?.node;
                Ok(self.binary(kind, left.node, right, position).into())
            }
        }
    }
}

fn too_deep(limit: u32, position: usize) -> ParseError {
    ParseError::new(
        position,
        format!("TX0003: nested more than {limit} levels deep"),
    )
}

fn check_depth(node: &Node) -> Result<()> {
    if node.depth > SYNTAX_DEPTH_MAX {
        return Err(too_deep(SYNTAX_DEPTH_MAX, node.position));
    }
    Ok(())
}

/// A name is a path of one step.
fn name_path(name: String, position: usize) -> Parsed {
    let step = Node::new(Kind::Name(name), position);
    let mut node = Node::new(
        Kind::Path {
            steps: vec![*step],
            keep_singleton: false,
        },
        position,
    );
    node.depth = 2;
    Parsed {
        node,
        written: Written::Name,
        filtered: false,
    }
}

/// How strongly a token binds to the operand on its left; zero ends the operand.
fn power(token: &Token) -> u32 {
    let Token::Operator(operator) = token else {
        return 0;
    };
    match *operator {
        "[" | "(" | "@" | "#" => 80,
        "." => 75,
        "{" => 70,
        "*" | "/" | "%" => 60,
        "+" | "-" | "&" => 50,
        "=" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "^" | "~>" | "?:" | "??" => 40,
        "and" => 30,
        "or" => 25,
        "?" => 20,
        ":=" => 10,
        _ => 0,
    }
}

fn binary_operator(operator: &str) -> (Operator, u32) {
    match operator {
        "+" => (Operator::Add, 50),
        "-" => (Operator::Subtract, 50),
        "&" => (Operator::Concatenate, 50),
        "*" => (Operator::Multiply, 60),
        "/" => (Operator::Divide, 60),
        "%" => (Operator::Modulo, 60),
        "=" => (Operator::Equal, 40),
        "!=" => (Operator::NotEqual, 40),
        "<" => (Operator::Less, 40),
        "<=" => (Operator::LessOrEqual, 40),
        ">" => (Operator::Greater, 40),
        ">=" => (Operator::GreaterOrEqual, 40),
        "in" => (Operator::In, 40),
        "and" => (Operator::And, 30),
        "or" => (Operator::Or, 25),
        other => unreachable!("{other} binds to its left, so it is one of the operators above"),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("the name `{name}`"),
        Token::Variable(name) => format!("the variable `${name}`"),
        Token::Operator(operator) => format!("`{operator}`"),
        Token::String(_) => "a string".to_owned(),
        Token::Number(number) => format!("the number {number}"),
        Token::Bool(flag) => format!("`{flag}`"),
        Token::Null => "`null`".to_owned(),
        Token::Regex(..) => "a regular expression".to_owned(),
        Token::End => "the end of the expression".to_owned(),
    }
}
