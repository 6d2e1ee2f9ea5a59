//! The syntax tree as the evaluator walks it. Built by the parser in one pass, never changed afterwards.

use crate::functions::Builtin;
use crate::pattern::Pattern;
use crate::signature::Signature;

/// Index into [`Tree::labels`]: one per `%` in the source.
pub(crate) type Slot = usize;

/// A parsed expression.
#[derive(Debug)]
pub(crate) struct Tree {
    pub root: Box<Node>,
    /// The variable under which the parent that a `%` stands for is bound. `%` that mean the same step
    /// share a label.
    pub labels: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    /// In characters from the start of the source.
    pub position: usize,
    /// Nesting of the tree below, this node included.
    pub depth: u32,
    /// Filters on a value that is not a step of a path.
    pub predicates: Vec<Node>,
    /// Filters and index bindings of a step of a path.
    pub stages: Vec<Stage>,
    pub group: Option<Group>,
    /// `[]` was written after it.
    pub keep_array: bool,
    /// An array written at the start or end of a path: is not flattened.
    pub constructed: bool,
    /// The step binds variables, so the path carries tuples.
    pub tuple: bool,
    /// `@$name`
    pub focus: Option<String>,
    /// `#$name`
    pub index: Option<String>,
    /// A later `%` means the context of this step.
    pub ancestor: Option<Slot>,
    /// `%` below that look for their step further left. Only used while parsing.
    pub seeking: Vec<Slot>,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Filter(Node),
    Index(String),
}

#[derive(Debug)]
pub(crate) struct Group {
    pub pairs: Vec<(Node, Node)>,
}

#[derive(Debug)]
pub(crate) struct SortTerm {
    pub descending: bool,
    pub expression: Node,
}

#[derive(Debug)]
pub(crate) struct Lambda {
    pub parameters: Vec<String>,
    pub signature: Option<Signature>,
    pub body: Node,
}

#[derive(Debug)]
pub(crate) struct Transform {
    pub pattern: Node,
    pub update: Node,
    pub delete: Option<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Concatenate,
    Range,
    In,
    And,
    Or,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Path {
        steps: Vec<Node>,
        keep_singleton: bool,
    },
    Name(String),
    String(String),
    Number(f64),
    Bool(bool),
    Null,
    Wildcard,
    Descendant,
    Parent(Slot),
    /// The empty name is the context. `builtin` is what the name means unless a variable hides it.
    Variable {
        name: String,
        builtin: Option<&'static Builtin>,
    },
    Regex(Box<Pattern>),
    Binary {
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
    },
    Negate(Box<Node>),
    Array(Vec<Node>),
    Object(Group),
    Call {
        procedure: Box<Node>,
        arguments: Vec<Node>,
    },
    /// `None` stands for `?`.
    Partial {
        procedure: Box<Node>,
        arguments: Vec<Option<Node>>,
    },
    Lambda(Box<Lambda>),
    Condition {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Option<Box<Node>>,
    },
    /// `a ?: b`
    Elvis {
        left: Box<Node>,
        right: Box<Node>,
    },
    /// `a ?? b`
    Coalesce {
        left: Box<Node>,
        right: Box<Node>,
    },
    Block(Vec<Node>),
    Bind {
        name: String,
        value: Box<Node>,
    },
    Apply {
        left: Box<Node>,
        right: Box<Node>,
    },
    Transform(Box<Transform>),
    Sort(Vec<SortTerm>),
}

impl Node {
    /// Boxed, so that the parser's frames stay small: its recursion is bounded by the stack.
    pub fn new(kind: Kind, position: usize) -> Box<Self> {
        Box::new(Self {
            kind,
            position,
            depth: 1,
            predicates: Vec::new(),
            stages: Vec::new(),
            group: None,
            keep_array: false,
            constructed: false,
            tuple: false,
            focus: None,
            index: None,
            ancestor: None,
            seeking: Vec::new(),
        })
    }
}
