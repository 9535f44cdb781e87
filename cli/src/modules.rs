//! `void-wasm modules`: uploading a module, and what one offers.

use std::process::ExitCode;

use void_api::ModuleInfo;

use crate::arguments::ModulesAction;
use crate::client::{Call, Client, encoded};
use crate::failure::Failure;
use crate::output::{hint, line};
use crate::table::{cell, lay_out};
use crate::target::upload;

/// Pushes or shows.
pub(crate) async fn run(client: &mut Client, action: ModulesAction, json: bool) -> Result<ExitCode, Failure> {
    let (answer, pushed) = match action {
        ModulesAction::Push { file } => (upload(client, &file).await?, true),
        ModulesAction::Show { cid } => {
            (client.call(Call::get(&format!("/v1/modules/{}", encoded(&cid)))).await?, false)
        }
    };
    if json {
        line(answer.text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let info: ModuleInfo = answer.read()?;
    if pushed {
        line(&info.cid)?;
        hint(&format!(
            "{}, {} bytes; `void-wasm modules show {}` lists its exports",
            info.kind, info.size, info.cid
        ));
    } else {
        line(lay_out(&fields(&info)).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fields(info: &ModuleInfo) -> Vec<Vec<String>> {
    let mut rows = vec![
        vec!["cid".to_owned(), info.cid.clone()],
        vec!["sha256".to_owned(), info.sha256.clone()],
        vec!["size".to_owned(), format!("{} bytes", info.size)],
        vec!["kind".to_owned(), info.kind.to_string()],
    ];
    for export in &info.exports {
        rows.push(vec![
            "export".to_owned(),
            format!("{} {}{}", export.kind, cell(&export.name, 60), typed(&export.ty)),
        ]);
    }
    for import in &info.imports {
        let name = format!("{}.{}", cell(&import.module, 40), cell(&import.name, 60));
        rows.push(vec!["import".to_owned(), format!("{} {name}{}", import.kind, typed(&import.ty))]);
    }
    for memory in &info.memories {
        let most = memory.max.map_or_else(|| " or more".to_owned(), |max| format!(" to {max}"));
        rows.push(vec!["memory".to_owned(), format!("{}{most} pages of 64 KiB", memory.min)]);
    }
    if !info.caps.is_empty() {
        rows.push(vec!["needs".to_owned(), info.caps.join(", ")]);
    }
    rows
}

fn typed(ty: &str) -> String {
    if ty.is_empty() { String::new() } else { format!(" {}", cell(ty, 200)) }
}
