//! REST in OIH's shape.

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::server::*;

async fn call(server: &Server, line: &str, body: Value) -> (u16, Value) {
    let (headers, bytes) = match &body {
        Value::Null => (vec![], Vec::new()),
        body => (vec![JSON], body.to_string().into_bytes()),
    };
    let answer = server.send(line, &headers, &bytes).await;
    (answer.status, answer.json())
}

fn document(name: &str) -> Value {
    json!({
        "name": name,
        "description": "what it does",
        "type": "ordinary",
        "graph": {"nodes": [{"id": "a", "componentId": "log", "function": "write"}]},
    })
}

/// The texts of an error's body, which must be in OIH's shape.
fn errors((status, body): &(u16, Value)) -> Vec<String> {
    let errors = body["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{body}"));
    assert!(!errors.is_empty());
    for error in errors {
        assert_eq!(error["code"], *status, "{body}");
    }
    let text = |error: &Value| error["message"].as_str().expect("a text").to_owned();
    errors.iter().map(text).collect()
}

async fn status_becomes(server: &Server, id: &str, status: &str) -> Value {
    let line = format!("GET /flows/{id}");
    timeout(WAIT, async {
        loop {
            let (_, body) = call(server, &line, Value::Null).await;
            if body["data"]["status"] == status {
                return body;
            }
            sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_flow() {
    let server = Server::start().await;
    let created = call(&server, "POST /flows", document("orders")).await;
    assert_eq!(created.0, 201, "{created:?}");
    let data = &created.1["data"];
    let id = data["id"].as_str().expect("an id").to_owned();
    assert!(
        id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(data["status"], "inactive");
    assert_eq!(data["graph"]["edges"], json!([]));
    assert!(data["createdAt"].as_str().expect("a time").ends_with('Z'));
    let whole = created.1["meta"]["flowId"]
        .as_str()
        .expect("ours")
        .to_owned();
    for id in [&id, &whole] {
        let got = call(&server, &format!("GET /flows/{id}"), Value::Null).await;
        assert_eq!((got.0, &got.1["data"]), (200, data));
    }

    // What was got can be sent again: keys of the server's own mean nothing.
    let line = format!("PATCH /flows/{id}");
    let mut changes = data.clone();
    changes["description"] = json!("something else");
    changes["type"] = Value::Null;
    let patched = call(&server, &line, changes).await;
    assert_eq!(patched.0, 200, "{patched:?}");
    assert_eq!(patched.1["data"]["description"], "something else");
    assert_eq!(patched.1["data"].get("type"), None);
    assert_eq!(patched.1["data"]["name"], "orders");

    let start = format!("POST /flows/{id}/start");
    let started = call(&server, &start, Value::Null).await;
    assert_eq!((started.0, &started.1["data"]["id"]), (200, &json!(id)));
    let status = &started.1["data"]["status"];
    assert!(status == "starting" || status == "active", "{status}");
    let active = status_becomes(&server, &id, "active").await;
    assert_eq!(active["meta"]["activeVersion"], 1);
    let again = call(&server, &start, Value::Null).await;
    assert_eq!(
        (again.0, &again.1["data"]["status"]),
        (200, &json!("active"))
    );

    let hook = format!("POST /hook/{id}");
    let taken = call(&server, &hook, json!({"n": 1})).await;
    assert_eq!(taken.0, 200, "webhooks know the short id too: {taken:?}");
    for refused in [
        call(&server, &line, json!({"name": "x"})).await,
        call(&server, &format!("DELETE /flows/{id}"), Value::Null).await,
    ] {
        assert_eq!(refused.0, 409, "{refused:?}");
        assert_eq!(
            errors(&refused),
            ["Flow is not inactive. Current status: active"]
        );
    }
    let stopped = call(&server, &format!("POST /flows/{id}/stop"), Value::Null).await;
    assert_eq!(stopped.0, 200, "{stopped:?}");
    status_becomes(&server, &id, "inactive").await;
    let stopped = call(&server, &format!("POST /flows/{id}/stop"), Value::Null).await;
    assert_eq!(
        (stopped.0, &stopped.1["data"]["status"]),
        (200, &json!("inactive"))
    );
    let deleted = call(&server, &format!("DELETE /flows/{id}"), Value::Null).await;
    assert_eq!(
        deleted,
        (200, json!({"msg": "Flow was successfully deleted"}))
    );
    for (line, text) in [
        (format!("GET /flows/{id}"), "No flow found"),
        (format!("PATCH /flows/{id}"), "Flow not found"),
        (format!("DELETE /flows/{id}"), "Flow not found"),
        (
            format!("POST /flows/{id}/start"),
            "No flow with this ID found",
        ),
        (
            format!("POST /flows/{id}/stop"),
            "No flow with this ID found",
        ),
        ("GET /flows/123456789012".into(), "No flow found"),
    ] {
        let body = if line.starts_with("PATCH") {
            json!({})
        } else {
            Value::Null
        };
        let missing = call(&server, &line, body).await;
        assert_eq!(
            (missing.0, errors(&missing)),
            (404, vec![text.to_owned()]),
            "{line}"
        );
    }
    let bad = call(&server, "GET /flows/SDSADGSDGH", Value::Null).await;
    assert_eq!((bad.0, errors(&bad)), (400, vec!["Invalid id".to_owned()]));
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_created_says_why() {
    let server = Server::start().await;
    let bad = json!({"name": "bad", "nmae": 1, "graph": {"nodes": [{"id": "a"}]}});
    let refused = call(&server, "POST /flows", bad.clone()).await;
    assert_eq!(refused.0, 400);
    let texts = errors(&refused);
    assert!(texts.len() >= 3, "every problem at once: {texts:?}");
    assert!(
        texts.iter().any(|text| text.starts_with("/nmae: ")),
        "{texts:?}"
    );
    let mut active = document("active");
    active["status"] = json!("active");
    let refused = call(&server, "POST /flows", active).await;
    assert!(
        refused.0 == 400 && errors(&refused)[0].contains("status"),
        "{refused:?}"
    );

    let several = json!([document("one"), bad, document("one"), 5, document("two")]);
    let results = call(&server, "POST /flows", several).await;
    assert_eq!(results.0, 201, "{results:?}");
    let results = results.1.as_array().expect("a list").clone();
    assert_eq!(results.len(), 5);
    assert_eq!(results[0]["data"]["name"], "one");
    assert_eq!(results[1]["errors"][0]["code"], 400);
    assert_eq!(results[2]["errors"][0]["code"], 409, "its name is taken");
    assert_eq!(results[2]["errors"][0]["reason"], "TM0111");
    assert_eq!(results[3]["errors"][0]["code"], 400);
    assert_eq!(results[4]["data"]["name"], "two");
    let id = &results[0]["data"]["id"];

    let mut nameless = document("");
    nameless.as_object_mut().expect("an object").remove("name");
    let created = call(&server, "POST /flows", nameless).await;
    assert_eq!(created.0, 201, "{created:?}");
    assert_ne!(&created.1["data"]["id"], id);

    let once = [JSON, ("Idempotency-Key", "k")];
    let body = document("three").to_string();
    let first = server.send("POST /flows", &once, body.as_bytes()).await;
    let second = server.send("POST /flows", &once, body.as_bytes()).await;
    assert_eq!((first.status, first.json()), (second.status, second.json()));
    for (headers, body, status) in [
        (vec![JSON], "{", 400),
        (vec![JSON], "1", 400),
        (vec![("Content-Type", "text/plain")], "{}", 415),
        (vec![JSON, ("Origin", "https://evil.example")], "{}", 403),
    ] {
        let answer = server.send("POST /flows", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{body} {headers:?}");
        errors(&(answer.status, answer.json()));
    }
    let large = vec![b' '; 4 * 1024 * 1024 + 1];
    let answer = server.send("POST /flows", &[JSON], &large).await;
    assert_eq!(answer.status, 413);
    let answer = server.send("PUT /flows", &[JSON], b"{}").await;
    assert_eq!(answer.status, 405, "{answer:?}");
    errors(&(answer.status, answer.json()));
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_flows_are_started_and_stopped_at_once() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let created = call(&server, "POST /flows", document(name)).await;
        ids.push(created.1["data"]["id"].clone());
    }
    let nobody = json!("000000000000000000000000");
    let all = json!([ids[0], nobody, 5, ids[1]]);
    for (line, status) in [
        ("POST /flows/multiple/start", "active"),
        ("POST /flows/multiple/stop", "inactive"),
    ] {
        let (code, results) = call(&server, line, all.clone()).await;
        assert_eq!(code, 200, "{results}");
        assert_eq!(results[0]["data"]["id"], ids[0]);
        let missing = &results[1]["errors"][0];
        assert_eq!(
            (&missing["code"], &missing["flowId"]),
            (&json!(404), &nobody)
        );
        assert_eq!(results[2]["errors"][0]["code"], 400);
        assert_eq!(results[3]["data"]["id"], ids[1]);
        for id in &ids {
            status_becomes(&server, id.as_str().expect("an id"), status).await;
        }
    }
    let refused = call(&server, "POST /flows/multiple/start", json!({})).await;
    assert_eq!(refused.0, 400);
    errors(&refused);
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_searched_sorted_and_paged() {
    let server = Server::start().await;
    for name in ["beta", "Alpha", "gamma"] {
        let created = call(&server, "POST /flows", document(name)).await;
        assert_eq!(created.0, 201);
    }
    let mut long = document("delta");
    long["type"] = json!("long-running");
    long["description"] = json!("Moves ALPHAbets");
    let long = call(&server, "POST /flows", long).await;
    let delta = long.1["data"]["id"].as_str().expect("an id");
    let started = call(&server, &format!("POST /flows/{delta}/start"), Value::Null).await;
    assert_eq!(started.0, 200);
    status_becomes(&server, delta, "active").await;
    let names = async |query: &str| {
        let (status, body) = call(&server, &format!("GET /flows{query}"), Value::Null).await;
        assert_eq!(status, 200, "{body}");
        let names: Vec<String> = body["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|flow| flow["name"].as_str().expect("a name").to_owned())
            .collect();
        (names.join(","), body["meta"].clone())
    };
    for (query, want) in [
        ("", "beta,Alpha,gamma,delta"),
        ("?sort=-createdAt", "delta,gamma,Alpha,beta"),
        ("?sort=name", "Alpha,beta,delta,gamma"),
        ("?sort=-name&page[size]=3", "gamma,delta,beta"),
        ("?sort=name&page[size]=3&page[number]=2", "gamma"),
        ("?page[size]=3&page[number]=9", ""),
        ("?filter[status]=1", "delta"),
        ("?filter[status]=inactive&sort=name", "Alpha,beta,gamma"),
        ("?filter[type]=long_running", "delta"),
        ("?filter%5Btype%5D=ordinary&sort=name", "Alpha,beta,gamma"),
        ("?search=alpha&sort=name", "Alpha,delta"),
        ("?filter[user]=someone", ""),
    ] {
        assert_eq!(names(query).await.0, want, "{query}");
    }
    let (_, meta) = names("?page[size]=3").await;
    assert_eq!(
        meta,
        json!({"page": 1, "perPage": 3, "total": 4, "totalPages": 2})
    );
    for query in [
        "filter[status]=on",
        "filter[type]=x",
        "filter[fromTemplate]=x",
        "sort=size",
        "page[size]=0",
    ] {
        let refused = call(&server, &format!("GET /flows?{query}"), Value::Null).await;
        assert_eq!(refused.0, 400, "{query}");
        errors(&refused);
    }
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_and_health() {
    let server = Server::start().await;
    let flow = server
        .activate("", "nodes: [{id: a, componentId: log, function: write}, {id: b, componentId: log, function: write}], edges: [{source: a, target: b}]")
        .await;
    for n in 0..3 {
        let taken = call(&server, &format!("POST /hook/{flow}"), json!({ "n": n })).await;
        assert_eq!(taken.0, 200);
    }
    let (_, shown) = call(&server, &format!("GET /flows/{flow}"), Value::Null).await;
    let id = shown["data"]["id"].as_str().expect("an id");
    let line = format!("GET /executions?filter[flowId]={id}&page[size]=2");
    let (status, listed) = call(&server, &line, Value::Null).await;
    assert_eq!(status, 200, "{listed}");
    assert_eq!(listed["meta"]["total"], 3);
    assert_eq!(listed["data"].as_array().expect("a list").len(), 2);
    let first = &listed["data"][0];
    assert_eq!(
        (&first["flowId"], &first["started"]),
        (&json!(id), &json!(2))
    );
    assert_eq!(first["status"], "succeeded");
    for key in ["id", "flowExecId", "executionId"] {
        let line = format!("GET /executions/{}", first[key].as_str().expect("an id"));
        let (status, got) = call(&server, &line, Value::Null).await;
        assert_eq!(status, 200, "{key}: {got}");
        assert_eq!(got["data"]["executionId"], first["executionId"]);
        assert_eq!(
            got["data"]["stepCounters"],
            json!({"a": {"in": 1, "out": 1, "errors": 0}, "b": {"in": 1, "out": 1, "errors": 0}})
        );
    }
    let failed = format!("GET /executions?filter[flowId]={id}&filter[status]=failed");
    assert_eq!(
        call(&server, &failed, Value::Null).await.1["meta"]["total"],
        0
    );
    let nobody = "GET /executions?filter[flowId]=000000000000000000000000";
    let (status, listed) = call(&server, nobody, Value::Null).await;
    assert_eq!((status, &listed["data"]), (200, &json!([])));
    for (line, status) in [
        ("GET /executions", 400),
        ("GET /executions?filter[flowId]=x", 400),
        ("GET /executions/x", 400),
        ("GET /executions/000000000000000100000000", 404),
        ("GET /executions/ffffffffffffffffffffffff", 404),
        ("POST /executions", 405),
    ] {
        let refused = call(&server, line, Value::Null).await;
        assert_eq!(refused.0, status, "{line}: {refused:?}");
        errors(&refused);
    }
    let (status, health) = call(&server, "GET /healthcheck", Value::Null).await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")), "{health}");
    server.running.drain().await;
}
