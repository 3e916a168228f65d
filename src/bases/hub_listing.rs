//! The files of a repository as the Hub lists them.

use serde_json::Value;

use super::hub_cache::{is_commit, is_inside};
use super::hub_client::{HubClient, HubFailure};
use super::hub_file::RepoName;

/// The most parts of a list that are asked for; each has up to a thousand files.
const MAX_PARTS: usize = 50;

/// The files of a repository at one commit.
#[derive(Debug)]
pub struct HubListing {
    /// The branch's name, `main` if there is such a branch.
    pub branch: String,
    /// The commit's id, 40 hexadecimal digits.
    pub commit: String,
    /// The files, in the Hub's order.
    pub files: Vec<ListedFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The name of its blob: the SHA-256, or for files without it the id of git's object.
    pub etag: String,
}

impl ListedFile {
    /// The file's SHA-256, if its blob is named by that.
    pub fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64).then_some(&*self.etag)
    }
}

impl HubListing {
    /// Asks the Hub for the files of `repo` on its branch `main`, or else on its first branch.
    pub fn fetch(client: &HubClient, repo: &RepoName) -> Result<Self, HubFailure> {
        let unusable = |reason: &str| HubFailure::NoAnswer {
            host: client.host(),
            reason: reason.to_owned(),
        };
        let (refs, _) = client.json(&format!("/api/models/{repo}/refs"))?;
        let (branch, commit) =
            branch_of(&refs).ok_or_else(|| unusable("its list of branches has none"))?;
        let mut files = Vec::new();
        let mut next = Some(format!("/api/models/{repo}/tree/{commit}?recursive=true"));
        for _ in 0..MAX_PARTS {
            let Some(path) = next else { break };
            let (part, following) = client.json(&path)?;
            let entries = part.as_array();
            let entries = entries.ok_or_else(|| unusable("its list of files is none"))?;
            files.extend(entries.iter().filter_map(listed_file));
            next = following;
        }
        Ok(Self {
            branch,
            commit,
            files,
        })
    }
}

/// The name and the commit of `main`, or else of the first branch.
fn branch_of(refs: &Value) -> Option<(String, String)> {
    let branch = |entry: &Value| {
        let name = entry["name"].as_str().filter(|name| is_inside(name))?;
        let commit = entry["targetCommit"].as_str();
        let commit = commit.filter(|commit| is_commit(commit))?;
        Some((name.to_owned(), commit.to_owned()))
    };
    let branches = refs["branches"].as_array()?;
    let mut branches: Vec<_> = branches.iter().filter_map(branch).collect();
    branches.sort_by_key(|(name, _)| name != "main");
    branches.into_iter().next()
}

/// A file of the list. Entries that could lead out of the cache's folder are no files.
fn listed_file(entry: &Value) -> Option<ListedFile> {
    let path = entry["path"].as_str().filter(|path| is_inside(path))?;
    let large = &entry["lfs"];
    let etag = large["oid"].as_str().or(entry["oid"].as_str())?;
    let bytes = large["size"].as_u64().or(entry["size"].as_u64())?;
    let is_hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_file = entry["type"] == "file" && is_hex && matches!(etag.len(), 40 | 64);
    is_file.then(|| ListedFile {
        path: path.to_owned(),
        bytes,
        etag: etag.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn main_is_preferred_and_names_that_lead_elsewhere_are_left() {
        let commit = |digit: &str| digit.repeat(40);
        let branch = |name: &str, commit: &str| json!({ "name": name, "targetCommit": commit });
        let refs = json!({ "branches": [
            branch("../../main", &commit("1")),
            branch("dev", &commit("2")),
            branch("main", &commit("3")),
        ] });
        assert_eq!(branch_of(&refs), Some(("main".into(), commit("3"))));
        let refs = json!({ "branches": [branch("main", "abc"), branch("dev", &commit("2"))] });
        assert_eq!(branch_of(&refs), Some(("dev".into(), commit("2"))));
        assert_eq!(branch_of(&json!({ "branches": [] })), None);
        assert_eq!(branch_of(&json!(3)), None);
    }

    #[test]
    fn files_have_the_names_of_their_blobs_and_stay_inside_the_cache() {
        let (git, large) = ("a".repeat(40), "B".repeat(64));
        let file = |path: &str| json!({ "type": "file", "path": path, "oid": git, "size": 7 });
        let small = listed_file(&file("a/README.md")).unwrap();
        assert_eq!((small.bytes, &small.etag, small.sha256()), (7, &git, None));
        let mut entry = file("m.gguf");
        entry["lfs"] = json!({ "oid": large, "size": 9 });
        let listed = listed_file(&entry).unwrap();
        let sha256 = "b".repeat(64);
        assert_eq!((listed.bytes, listed.sha256()), (9, Some(&*sha256)));
        for path in ["../m.gguf", "/m.gguf", "a/../../m.gguf", "a\\m.gguf", ""] {
            assert_eq!(listed_file(&file(path)), None, "{path}");
        }
        entry["lfs"]["oid"] = json!("../../x");
        assert_eq!(listed_file(&entry), None);
    }
}
