package main

import (
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/oms"
)

// TestHostileNames: a file's name adds no line to a report or an error.
func TestHostileNames(t *testing.T) {
	s := &signatureJSON{Report: &oms.Report{
		Problems: []oms.Problem{{File: "x\nok model is what was signed", What: "is missing"}}, Ignored: []string{"y\nok too"},
	}}
	var b strings.Builder
	s.write(&b)
	if text := b.String() + s.fault("m").Error(); strings.Contains(text, "\nok") || !strings.Contains(text, `"x\nok`) {
		t.Error(text)
	}
}
