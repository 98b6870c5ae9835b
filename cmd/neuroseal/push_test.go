package main

import (
	"fmt"
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
	model := fixture(t, "../../internal/demo/model")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/hub",
		Setup: func(env *testscript.Env) error {
			s := hubtest.New()
			env.Defer(s.Close)
			s.AddUser("ann", hubToken)
			s.AddUser("bob", "hf_bob")
			env.Values["hub"] = s
			env.Setenv("MODEL", model)
			env.Setenv("HF_ENDPOINT", s.URL)
			env.Setenv("HF_HOME", env.WorkDir+"/hf")
			env.Setenv("HF_TOKEN", hubToken)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": scriptCode, "json": scriptJSON, "jsonlines": scriptJSONLines, "edit": scriptEdit, "cptree": scriptCopyTree,
			"hub": scriptHub, "hush": scriptHush,
		},
	})
}

// scriptHub looks at the hub or changes it:
//
//	hub add ID               a public model with a README
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

// scriptHush demands that the last command said nothing of any token.
func scriptHush(ts *testscript.TestScript, _ bool, _ []string) {
	for _, stream := range []string{"stdout", "stderr"} {
		if text := ts.ReadFile(stream); strings.Contains(text, "hf_ann") || strings.Contains(text, "hf_bob") || strings.Contains(text, "signature") {
			ts.Fatalf("%s holds a secret: %s", stream, text)
		}
	}
}
