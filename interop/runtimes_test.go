//go:build interop

package interop_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// writeRuntimes puts a table into the page that RUNTIMES_REPORT names, if any:
// between the comments that begin and end its section.
func writeRuntimes(t *testing.T, section, table string) {
	t.Helper()
	path := os.Getenv("RUNTIMES_REPORT")
	if path == "" {
		return
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+section+" -->\n", "<!-- end of "+section+" -->\n"
	head, rest, ok1 := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no section %s", path, section)
	}
	if err := os.WriteFile(path, []byte(head+begin+table+end+tail), 0o666); err != nil {
		t.Fatal(err)
	}
}

// likeness says what two runs' logits have in common.
func likeness(equal bool, difference, largest float64) string {
	if equal {
		return "identical"
	}
	return fmt.Sprintf("differ by %.2g of %.2g", difference, largest)
}

// cell is a message as a cell of a table.
func cell(message string) string {
	line, _, _ := strings.Cut(message, "\n")
	return strings.ReplaceAll(line, "|", "/")
}
