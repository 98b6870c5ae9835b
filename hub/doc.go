// Package hub talks to the Hugging Face hub, or to a server that speaks its
// protocol: it downloads models into the cache that huggingface_hub uses, reads
// parts of remote files, and publishes folders. It needs nothing but net/http.
//
// The protocol is the one that huggingface_hub 2.4 documents and uses without
// Xet: /api/models for what a repository holds, /resolve for bytes, git-lfs
// batch for large uploads, one ndjson commit for the rest. The environment is
// its, too: HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT,
// HF_HUB_OFFLINE.
//
// A token is sent to the endpoint's own origin and nowhere else, whatever a
// redirect or an upload instruction says, and it is cut out of every message.
// What a server says is not trusted: file names are checked before they become
// paths, answers are bounded, and a file counts as downloaded only when its
// SHA-256 (its git SHA-1, for small ones) is the one that the listing names.
package hub
