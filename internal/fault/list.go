package fault

import (
	"fmt"
	"strings"
)

// listed is how many names a message holds before it only counts the rest.
const listed = 8

// List joins names for a message: the first ones, and how many more there are.
func List(names []string) string {
	s := strings.Join(names[:min(len(names), listed)], ", ")
	if n := len(names) - listed; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}
