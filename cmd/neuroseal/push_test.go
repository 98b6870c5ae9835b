package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/neuroseal/neuroseal/hub/hubtest"
)

// hubToken is what ann writes with. No output of any script may hold it.
const hubToken = "hf_annannannannannannannannannannannan"

// TestHubScripts runs the command against a hub of its own per script. $HF_TOKEN
// is ann's; "hub" looks at the hub and makes it fail.
func TestHubScripts(t *testing.T) {
	model, families, onnx := fixture(t, "../../internal/demo/model"), fixture(t, "../../arch/testdata"), fixture(t, "../../onnx/testdata")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/hub",
		Setup: func(env *testscript.Env) error {
			s := hubtest.New()
			env.Defer(s.Close)
			s.AddUser("ann", hubToken)
			s.AddUser("bob", "hf_bob")
			s.AddUser("org", "hf_org")
			env.Values["hub"] = s
			env.Setenv("MODEL", model)
			env.Setenv("FAMILIES", families)
			env.Setenv("ONNX", onnx)
			env.Setenv("OMS", fixture(t, "../../oms/testdata"))
			env.Setenv("HF_ENDPOINT", s.URL)
			env.Setenv("HF_HOME", env.WorkDir+"/hf")
			env.Setenv("HF_TOKEN", hubToken)
			env.Setenv("ANN", hubToken)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "json": scriptJSON, "jsonlines": scriptJSONLines, "edit": scriptEdit, "cptree": scriptCopyTree,
			"hub": scriptHub, "mkfiles": scriptMakeFiles, "recipient": scriptRecipient, "hush": scriptHush, "mkshards": scriptMakeShards, "mklora": scriptMakeLoRA, "sametree": scriptSameTree, "only": scriptOnly, "flip": scriptFlip,
		},
	})
}

// scriptMakeFiles makes small binary files that differ: mkfiles FOLDER N EXTENSION
func scriptMakeFiles(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o777))
	for i := range n {
		ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), fmt.Sprint(i)+args[2]), []byte{0, 1, byte(i), byte(i >> 8)}, 0o666))
	}
}

// scriptHub looks at the hub or changes it:
//
//	hub add ID               a public model with a README
//	hub put ID FOLDER        a public model with the folder's files
//	hub gate ID              a gated model with a README, which bob may read
//	hub sent N               storage sent fewer than N bytes since the last forget
//	hub files ID REV N       the revision holds N files
//	hub same ID REV PATH     the revision's PATH is the file PATH here
//	hub private|public ID    so it is
//	[!] hub exists ID
//	hub fail PATH STATUS N   N requests to PATH fail
//	hub lose PATH            the answer of the next request to PATH is lost
//	hub calls PATH N         there were N requests to PATH since the last forget
//	hub forget
func scriptHub(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value("hub").(*hubtest.Server)
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	var problem string
	switch args[0] {
	case "add":
		s.AddRepo(args[1], hubtest.RepoOptions{}, map[string][]byte{"README.md": []byte("# model\n")})
	case "put":
		files, err := tree(ts.MkAbs(args[2]))
		ts.Check(err)
		content := map[string][]byte{}
		for name, data := range files {
			content[name] = []byte(data)
		}
		s.AddRepo(args[1], hubtest.RepoOptions{}, content)
	case "gate":
		s.AddRepo(args[1], hubtest.RepoOptions{Owner: "carl", Gated: true, Allowed: []string{"bob"}}, map[string][]byte{"config.json": []byte("{}"), "model.safetensors": []byte("x")})
	case "sent":
		if sent, _ := s.Traffic(); sent >= int64(number(1)) {
			problem = fmt.Sprintf("%d bytes", sent)
		}
	case "files":
		if got := s.Content(args[1], args[2]); len(got) != number(3) {
			problem = fmt.Sprintf("%d files", len(got))
		}
	case "same":
		if string(s.Content(args[1], args[2])[args[3]]) != ts.ReadFile(args[4]) {
			problem = args[3] + " differs"
		}
	case "exists":
		if exists, _ := s.Private(args[1]); exists == neg {
			problem = fmt.Sprint(exists)
		}
	case "private", "public":
		if exists, private := s.Private(args[1]); !exists || private != (args[0] == "private") {
			problem = fmt.Sprintf("exists %v, private %v", exists, private)
		}
	case "fail":
		s.Fail(hubtest.Fault{Path: args[1], Status: number(2), Times: number(3)})
	case "lose":
		s.Fail(hubtest.Fault{Path: args[1], Lose: true, Times: 1})
	case "calls":
		if n := s.Count("", "", args[1]); n != number(2) {
			problem = fmt.Sprintf("%d requests", n)
		}
	case "forget":
		s.Forget()
	default:
		ts.Fatalf("hub %s is unknown", args[0])
	}
	if problem != "" {
		ts.Fatalf("hub %s: %s", strings.Join(args, " "), problem)
	}
}

// scriptHush demands that the last command said nothing of any token, that no
// file below the folders holds one, and that storage was never shown one.
func scriptHush(ts *testscript.TestScript, _ bool, folders []string) {
	for _, dir := range folders {
		files, err := tree(ts.MkAbs(dir))
		ts.Check(err)
		for name, data := range files {
			if strings.Contains(data, hubToken) {
				ts.Fatalf("%s holds a token", name)
			}
		}
	}
	for _, r := range ts.Value("hub").(*hubtest.Server).Requests() {
		if r.Server == "storage" && (r.Authorization != "" || strings.Contains(fmt.Sprint(r.Header), "hf_")) {
			ts.Fatalf("storage was shown a token: %v", r)
		}
	}
	for _, stream := range []string{"stdout", "stderr"} {
		if text := ts.ReadFile(stream); strings.Contains(text, "hf_ann") || strings.Contains(text, "hf_bob") || strings.Contains(text, "signature") {
			ts.Fatalf("%s holds a secret: %s", stream, text)
		}
	}
}
