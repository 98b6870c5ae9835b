package modelcard

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// hubID is the form of a model's id: owner and name.
var hubID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$`)

// folders are first parts of a path that people give to folders of their own.
// As owners of models they would be read wrongly.
var folders = []string{"models", "model", "checkpoints", "checkpoint", "ckpt", "ckpts", "output", "outputs", "out", "result", "results",
	"run", "runs", "data", "datasets", "tmp", "temp", "cache", "home", "root", "mnt", "workspace", "content", "kaggle", "opt", "usr", "var",
	"users", "local", "save", "saved", "saves", "weights", "work", "exp", "experiments", "hf", "llm", "llms", "pretrained", "base", "merged",
	"trained", "train", "test", "tests", "scratch", "snapshots", "artifacts", "final", "sealed"}

// step is the name of a state in a training.
var step = regexp.MustCompile(`(?i)^(checkpoint|ckpt|epoch|step|global_step|iter)[-_]?[0-9]*$`)

// IsID reports whether s is the id of a model on the hub by its form.
func IsID(s string) bool {
	return hubID.MatchString(s) && !strings.Contains(s, "--") && !strings.Contains(s, "..") &&
		!strings.HasSuffix(s, ".git") && !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "-")
}

// BaseModel returns the id on the hub that a config.json says its weights were
// loaded from, "" if it says none. A path that may be a folder on somebody's
// disk is none.
func BaseModel(config []byte) string {
	var c struct {
		Name string `json:"_name_or_path"`
	}
	if json.Unmarshal(config, &c) != nil || !IsID(c.Name) {
		return ""
	}
	owner, name, _ := strings.Cut(c.Name, "/")
	if slices.Contains(folders, strings.ToLower(owner)) || slices.Contains(folders, strings.ToLower(name)) || step.MatchString(name) {
		return ""
	}
	return c.Name
}

// Relation is what hubs call a copy that computes what its base does. They know
// four relations (adapter, merge, quantized, finetune), none of which is this
// one; it is the one that they themselves assume of such files.
func Relation(config []byte) string {
	var c struct {
		Quantised json.RawMessage `json:"quantization_config"`
	}
	if json.Unmarshal(config, &c) == nil && len(c.Quantised) > 0 && string(c.Quantised) != "null" {
		return "quantized"
	}
	return "finetune"
}
