package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func htmlPage(t *testing.T, in []Input) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var scripts = regexp.MustCompile(`(?s)<script[^>]*>(.*?)</script>|<style>(.*?)</style>`)

// element is an opening tag with its text up to the next tag.
type element struct {
	name, text string
	attr       map[string]string
	path       []string
}

// parse reads the page, which is well-formed, and fails if its tags do not nest.
func parse(t *testing.T, page string) []element {
	t.Helper()
	page = scripts.ReplaceAllString(page, "")
	dec := xml.NewDecoder(strings.NewReader(page))
	dec.Entity = xml.HTMLEntity
	dec.Strict = true
	var out []element
	var path []string
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch x := tok.(type) {
		case xml.StartElement:
			e := element{name: x.Name.Local, attr: map[string]string{}}
			for _, a := range x.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			path = append(path, e.name)
			e.path = slices.Clone(path)
			out = append(out, e)
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.CharData:
			if len(out) > 0 {
				out[len(out)-1].text += string(x)
			}
		}
	}
}

// TestPageIsSelfContained: nothing on the page names another place, and its
// policy would stop what did.
func TestPageIsSelfContained(t *testing.T) {
	for name, in := range map[string][]Input{"one": one(), "several": several(), "hostile": hostile()} {
		page := htmlPage(t, in)
		for _, e := range parse(t, page) {
			for k, v := range e.attr {
				switch k {
				case "href":
					if !strings.HasPrefix(v, "#") {
						t.Errorf("%s: %s links to %s", name, e.name, v)
					}
				case "src", "srcset", "data", "action", "formaction", "poster", "background", "ping", "style":
					t.Errorf("%s: %s has %s=%q", name, e.name, k, v)
				}
				if strings.HasPrefix(k, "on") {
					t.Errorf("%s: %s has a handler, %s=%q", name, e.name, k, v)
				}
			}
			if slices.Contains([]string{"link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "script"}, e.name) {
				t.Errorf("%s: an element %s", name, e.name)
			}
		}
		blocks := scripts.FindAllString(page, -1)
		if len(blocks) != 3 {
			t.Fatalf("%s: %d scripts and styles, not 3", name, len(blocks))
		}
		for _, b := range []string{blocks[0], blocks[2]} {
			if found := regexp.MustCompile(`(?i)url\(|@import|https?://[^w]|fetch\(|XMLHttp|import\(|innerHTML|document\.write|eval\(`).FindString(b); found != "" {
				t.Errorf("%s: style or script has %q", name, found)
			}
		}
		if !strings.Contains(page, "default-src &#39;none&#39;") {
			t.Errorf("%s: no security policy", name)
		}
	}
}

// TestPageStructure: what a reader without eyes or mouse needs.
func TestPageStructure(t *testing.T) {
	for name, in := range map[string][]Input{"one": one(), "several": several()} {
		all := parse(t, htmlPage(t, in))
		ids, count := map[string]bool{}, map[string]int{}
		for _, e := range all {
			count[e.name]++
			if id := e.attr["id"]; id != "" {
				if ids[id] {
					t.Errorf("%s: two elements have the id %s", name, id)
				}
				ids[id] = true
			}
		}
		for i, e := range all {
			for _, k := range []string{"aria-labelledby", "for"} {
				if v := e.attr[k]; v != "" && !ids[v] {
					t.Errorf("%s: %s of %s names %s, which is not there", name, k, e.name, v)
				}
			}
			if v := e.attr["href"]; v != "" && !ids[v[1:]] {
				t.Errorf("%s: a link to %s, which is not there", name, v)
			}
			if e.name == "table" && all[i+1].name != "caption" {
				t.Errorf("%s: a table without a caption", name)
			}
			if e.name == "svg" && e.attr["aria-hidden"] == "" && e.attr["aria-label"] == "" {
				t.Errorf("%s: a drawing without a name", name)
			}
		}
		if count["h1"] != 1 || count["main"] != 1 || count["article"] != len(in) {
			t.Errorf("%s: %v", name, count)
		}
	}
}

// TestFirstScreen: what comes before the curves names all that does not flatter.
func TestFirstScreen(t *testing.T) {
	in := one()
	s := in[0].Summary
	page := htmlPage(t, in)
	first := page[strings.Index(page, "<article"):strings.Index(page, "run1-curves")]
	text := strings.Join(strings.Fields(regexp.MustCompile(`<[^>]+>`).ReplaceAllString(first, "")), " ")
	for _, want := range []string{
		"shakespeare-llama", "gauge, strong", "2026-11-23", "No seal can hold these", "no seal can hold these",
		fmt.Sprintf("%d of %d held", s.Held, s.Tried), fmt.Sprintf("%d of %d held", s.InvariantHeld, s.InvariantTry),
		fmt.Sprintf("%d of %d held", s.InformedHeld, s.InformedTried), fmt.Sprintf("Inconclusive (%d)", s.Inconclusive),
		"Not run: 2", "Cheapest known break", seconds(s.Cheapest.Seconds), size(s.Cheapest.BytesRead) + " read", s.Cheapest.Recipe, "Learned most",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the first screen lacks %q: %s", want, text)
		}
	}
	in[0].Summary.Cheapest = nil
	if page := htmlPage(t, in); !strings.Contains(page, "That is no proof that there is none") {
		t.Error("without a break the page claims too much")
	}
}

// TestRecipeRows: every recipe has its row, with the figures as given.
func TestRecipeRows(t *testing.T) {
	in := one()
	s := in[0].Summary
	nan, inf, tiny := math.NaN(), math.Inf(1), 1e-9
	s.Recipes[1].BestLoss, s.Recipes[2].UnsealedBestLoss, s.Recipes[3].LearnedFraction = &nan, &inf, &tiny
	page := htmlPage(t, in)
	table := page[strings.Index(page, `<table class="recipes"`):]
	table = table[:strings.Index(table, "</table>")]
	rows := strings.Split(table, `<tr role="row">`)[2:]
	if len(rows) != len(s.Recipes) {
		t.Fatalf("%d rows, %d recipes", len(rows), len(s.Recipes))
	}
	for i, r := range s.Recipes {
		for _, want := range []string{r.Name, string(r.Verdict), r.Reason, `data-v="` + string(r.Class) + `"`} {
			if !strings.Contains(rows[i], want) {
				t.Errorf("the row of %s lacks %q", r.Name, want)
			}
		}
	}
	for i, want := range map[int]string{1: ">diverged</td>", 2: ">diverged</td>", 3: "<0.1%", 4: ">4×"} {
		if want = strings.ReplaceAll(strings.ReplaceAll(want, "<0", "&lt;0"), ">4", "&gt;4"); !strings.Contains(rows[i], want) {
			t.Errorf("the row of %s lacks %q: %s", s.Recipes[i].Name, want, rows[i])
		}
	}
	if found := regexp.MustCompile(`\b(NaN|[+-]?Inf|null)\b`).FindString(scripts.ReplaceAllString(page, "")); found != "" {
		t.Errorf("a number that is not finite is shown as %s", found)
	}
}

// TestHostileText: text from strangers stays text. That the page parses, has no
// element of theirs and runs in a browser is shown elsewhere.
func TestHostileText(t *testing.T) {
	page := htmlPage(t, hostile())
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img") {
		t.Error("markup got through")
	}
	for _, r := range page {
		if r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r < 0x20 && r != '\n' {
			t.Errorf("the control character %U got through", r)
			break
		}
	}
	data := page[strings.Index(page, `id="data">`)+len(`id="data">`):]
	data = data[:strings.Index(data, "</script>")]
	var runs []drawnRun
	if err := json.Unmarshal([]byte(data), &runs); err != nil {
		t.Fatalf("the page's data: %v", err)
	}
	if len(runs) != 1 || !strings.Contains(runs[0].Recipes[0].Name, "</script>") {
		t.Errorf("the name of recipe 0 is %q", runs[0].Recipes[0].Name)
	}
}

// TestPageSize: a run of 60 recipes in three seeds stays light.
func TestPageSize(t *testing.T) {
	if n := len(htmlPage(t, many(60))); n > 400_000 {
		t.Errorf("60 recipes make a page of %d bytes", n)
	}
}

// TestCurvesMissing: a report of figures alone says that it is one.
func TestCurvesMissing(t *testing.T) {
	in := one()
	in[0].Results = nil
	if page := htmlPage(t, in); !strings.Contains(page, "made without the trials") {
		t.Error("nothing says that there are no curves")
	}
	if err := PNG(io.Discard, in); err != nil {
		t.Error(err)
	}
}

func TestNothingToReport(t *testing.T) {
	for name, in := range map[string][]Input{"no runs": nil, "no summary": {{}}, "no recipes": {{Summary: &arena.Summary{}}}, "too many": make([]Input, maxRuns+1)} {
		for what, f := range map[string]func(io.Writer, []Input) error{"HTML": HTML, "PNG": PNG, "CardJSON": CardJSON, "CardMarkdown": CardMarkdown} {
			var b bytes.Buffer
			if err := f(&b, in); fault.KindOf(err) != fault.Usage || b.Len() > 0 {
				t.Errorf("%s of %s: %v, %d bytes written", what, name, err, b.Len())
			}
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWriteError(t *testing.T) {
	in := one()
	for what, f := range map[string]func(io.Writer, []Input) error{"HTML": HTML, "PNG": PNG, "CardJSON": CardJSON, "CardMarkdown": CardMarkdown} {
		if err := f(fullDisk{}, in); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
