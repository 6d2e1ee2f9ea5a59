//! Calls, functions, conditions and assignments.

use super::build::call_depth;
use super::{Parsed, Parser, Result, Written, power, too_deep};
use crate::ast::{Kind, Lambda, Node};
use crate::error::ParseError;
use crate::limits::{ARGUMENTS_MAX, SYNTAX_DEPTH_MAX};
use crate::signature::Signature;
use crate::tokenizer::Token;

impl Parser {
    pub(super) fn call(&mut self, left: Parsed, position: usize) -> Result<Parsed> {
        let mut arguments = Vec::new();
        let mut partial = false;
        let mut plain_variables = true;
        if !self.is(")") {
            loop {
                if self.is("?") {
                    partial = true;
                    arguments.push(None);
                    self.advance(false)?;
                } else {
                    let argument = self.expression(0)?;
                    plain_variables &= argument.written == Written::Variable && !argument.filtered;
                    arguments.push(Some(*argument.node));
                }
                if !self.is(",") {
                    break;
                }
                self.advance(false)?;
            }
        }
        self.expect(")", true)?;
        if arguments.len() > ARGUMENTS_MAX {
            let message = format!("TX0006: a function can have at most {ARGUMENTS_MAX} arguments");
            return Err(ParseError::new(position, message));
        }
        if is_function_keyword(&left) {
            return self.lambda(arguments, plain_variables, position);
        }
        let mut node = Node::new(Kind::Null, position);
        for argument in arguments.iter().flatten() {
            self.ancestry.inherit(&mut node, argument);
        }
        node.depth = call_depth(&left.node, &arguments);
        let procedure = left.node;
        node.kind = if partial {
            Kind::Partial {
                procedure,
                arguments,
            }
        } else {
            Kind::Call {
                procedure,
                arguments: arguments.into_iter().flatten().collect(),
            }
        };
        Ok(node.into())
    }

    fn lambda(
        &mut self,
        arguments: Vec<Option<Node>>,
        plain_variables: bool,
        position: usize,
    ) -> Result<Parsed> {
        let mut parameters = Vec::new();
        for (index, argument) in arguments.into_iter().enumerate() {
            match argument.map(|argument| argument.kind) {
                Some(Kind::Variable { name, .. }) if plain_variables => parameters.push(name),
                _ => {
                    let message = format!(
                        "S0208: parameter {} of the function must be a variable such as $x",
                        index + 1
                    );
                    return Err(ParseError::new(position, message));
                }
            }
        }
        self.bound.extend(parameters.iter().cloned());
        let mut signature = None;
        if self.is("<") {
            let at = self.position;
            let mut text = String::from("<");
            let mut depth = 1;
            while depth > 0 && !self.is("{") && self.token != Token::End {
                self.advance(false)?;
                match &self.token {
                    Token::Operator(">") => depth -= 1,
                    Token::Operator("<") => depth += 1,
                    _ => {}
                }
                text.push_str(&signature_text(&self.token));
            }
            self.expect(">", false)?;
            signature =
                Some(Signature::parse(&text).map_err(|message| ParseError::new(at, message))?);
        }
        self.expect("{", false)?;
        let body = self.expression(0)?.node;
        self.expect("}", false)?;
        let depth = body.depth + 1;
        let lambda = Lambda {
            parameters,
            signature,
            body: *body,
        };
        let mut node = Node::new(Kind::Lambda(Box::new(lambda)), position);
        node.depth = depth;
        Ok(node.into())
    }

    /// `a ? b : c ? d : e …` is read in a loop: a long list of cases is no nesting.
    pub(super) fn condition(&mut self, condition: Box<Node>, position: usize) -> Result<Parsed> {
        let mut cases = Vec::new();
        let (mut condition, mut position) = (condition, position);
        let mut otherwise = loop {
            let then = self.expression(0)?.node;
            cases.push((condition, then, position));
            if cases.len() > SYNTAX_DEPTH_MAX as usize {
                return Err(too_deep(SYNTAX_DEPTH_MAX, position));
            }
            if !self.is(":") {
                break None;
            }
            self.advance(false)?;
            let mut branch = self.expression(20)?;
            if self.is("?") {
                position = self.position;
                condition = branch.node;
                self.advance(false)?;
                continue;
            }
            // What binds less than a condition still belongs to the last branch.
            while power(&self.token) > 0 {
                let (token, at) = (
                    std::mem::replace(&mut self.token, Token::End),
                    self.position,
                );
                self.advance(false)?;
                branch = self.infix(branch, token, at)?;
            }
            break Some(branch.node);
        };
        while let Some((condition, then, position)) = cases.pop() {
            let mut node = Node::new(Kind::Null, position);
            node.depth = condition.depth.max(then.depth) + 1;
            for part in [Some(&condition), Some(&then), otherwise.as_ref()]
                .into_iter()
                .flatten()
            {
                node.depth = node.depth.max(part.depth + 1);
                self.ancestry.inherit(&mut node, part);
            }
            node.kind = Kind::Condition {
                condition,
                then,
                otherwise,
            };
            otherwise = Some(node);
        }
        let node = otherwise.expect("the loop builds at least one condition");
        Ok(node.into())
    }

    pub(super) fn bind(&mut self, left: Parsed, position: usize) -> Result<Parsed> {
        let name = match left.node.kind {
            Kind::Variable { name, .. } if !left.filtered => name,
            _ => {
                let message = "S0212: the left side of := must be a variable such as $x";
                return Err(ParseError::new(left.node.position, message));
            }
        };
        let value = self.expression(9)?.node;
        self.bound.push(name.clone());
        let mut node = Node::new(Kind::Null, position);
        node.depth = value.depth + 1;
        self.ancestry.inherit(&mut node, &value);
        node.kind = Kind::Bind { name, value };
        Ok(node.into())
    }
}

fn is_function_keyword(left: &Parsed) -> bool {
    let Kind::Path { steps, .. } = &left.node.kind else {
        return false;
    };
    let [
        Node {
            kind: Kind::Name(name),
            ..
        },
    ] = steps.as_slice()
    else {
        return false;
    };
    left.written == Written::Name && !left.filtered && (name == "function" || name == "λ")
}

fn signature_text(token: &Token) -> String {
    match token {
        Token::Name(text) | Token::String(text) => text.clone(),
        Token::Variable(name) => format!("${name}"),
        Token::Operator(operator) => (*operator).to_owned(),
        Token::Number(number) => number.to_string(),
        Token::Bool(flag) => flag.to_string(),
        Token::Null => "null".to_owned(),
        Token::Regex(..) => "/".to_owned(),
        Token::End => String::new(),
    }
}
