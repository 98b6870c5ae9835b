package action

import (
	"regexp"
	"strings"
	"testing"
)

// filling is an expression in a text.
var filling = regexp.MustCompile(`\$\{\{(.*?)\}\}`)

// fill replaces the expressions in a text by their values.
func (r *runner) fill(t *testing.T, text string) string {
	t.Helper()
	return filling.ReplaceAllStringFunc(text, func(m string) string {
		return r.eval(t, filling.FindStringSubmatch(m)[1])
	})
}

// token is one token of an expression.
var token = regexp.MustCompile(`^\s*('(?:[^']|'')*'|\|\||&&|==|!=|[!()]|[A-Za-z_][A-Za-z0-9_.-]*)`)

// expression is a recursive-descent evaluator of the expressions that the
// action uses. All values are strings; truth is "true" or "".
type expression struct {
	t    *testing.T
	r    *runner
	rest string
}

// eval evaluates an expression, with or without its braces.
func (r *runner) eval(t *testing.T, text string) string {
	t.Helper()
	if m := filling.FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	e := &expression{t: t, r: r, rest: text}
	v := e.or()
	if strings.TrimSpace(e.rest) != "" {
		t.Fatalf("expression %q: cannot read %q", text, e.rest)
	}
	return v
}

func truthy(v string) bool { return v != "" }

// take consumes the next token if it is one of those wanted, or any if none.
func (e *expression) take(want ...string) string {
	m := token.FindStringSubmatch(e.rest)
	if m == nil {
		return ""
	}
	if len(want) == 0 {
		e.rest = e.rest[len(m[0]):]
		return m[1]
	}
	for _, w := range want {
		if m[1] == w {
			e.rest = e.rest[len(m[0]):]
			return w
		}
	}
	return ""
}

func (e *expression) or() string {
	v := e.and()
	for e.take("||") != "" {
		if w := e.and(); !truthy(v) {
			v = w
		}
	}
	return v
}

func (e *expression) and() string {
	v := e.equal()
	for e.take("&&") != "" {
		if w := e.equal(); truthy(v) {
			v = w
		}
	}
	return v
}

// equal compares as GitHub does: without regard to case.
func (e *expression) equal() string {
	v := e.unary()
	op := e.take("==", "!=")
	if op == "" {
		return v
	}
	return boolean(strings.EqualFold(v, e.unary()) == (op == "=="))
}

func (e *expression) unary() string {
	if e.take("!") != "" {
		return boolean(!truthy(e.unary()))
	}
	if e.take("(") != "" {
		v := e.or()
		if e.take(")") == "" {
			e.t.Fatalf("expression: no ) before %q", e.rest)
		}
		return v
	}
	word := e.take()
	if strings.HasPrefix(word, "'") {
		return strings.ReplaceAll(word[1:len(word)-1], "''", "'")
	}
	if e.take("(") != "" {
		e.take(")")
		return e.status(word)
	}
	return e.lookup(word)
}

func (e *expression) status(name string) string {
	switch name {
	case "always":
		return "true"
	case "success":
		return boolean(e.r.exitCode == 0)
	case "failure":
		return boolean(e.r.exitCode != 0)
	}
	e.t.Fatalf("expression: no function %s", name)
	return ""
}

func (e *expression) lookup(name string) string {
	p := strings.Split(name, ".")
	switch {
	case len(p) == 2 && p[0] == "inputs":
		v, ok := e.r.inputs[p[1]]
		if !ok {
			e.t.Fatalf("expression: no input %s", p[1])
		}
		return v
	case len(p) == 4 && p[0] == "steps" && p[2] == "outputs":
		return e.r.outputs[p[1]][p[3]]
	case name == "github.action_path":
		return e.r.action
	case name == "runner.temp":
		return e.r.temp
	}
	e.t.Fatalf("expression: %q is unknown", name)
	return ""
}

func boolean(v bool) string {
	if v {
		return "true"
	}
	return ""
}

// TestExpressions: the evaluator does what GitHub documents.
func TestExpressions(t *testing.T) {
	r := &runner{inputs: map[string]string{"a": "x", "b": "", "n": "False"}, outputs: map[string]map[string]string{"s": {"path": "/p"}}}
	for text, want := range map[string]string{
		"${{ inputs.a }}":                            "x",
		"<${{ inputs.b }}|${{inputs.a}}>":            "<|x>",
		"${{ inputs.b || 'it''s' }}":                 "it's",
		"${{ inputs.a && steps.s.outputs.path }}":    "/p",
		"${{ inputs.n != 'false' }}":                 "",
		"${{ inputs.b == '' && inputs.a != 'y' }}":   "true",
		"${{ !(inputs.a == 'x') || success() }}":     "true",
		"${{ steps.none.outputs.x || inputs.a }}":    "x",
		"${{ failure() || steps.s.outputs.nothing}}": "",
	} {
		if got := r.fill(t, text); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}
