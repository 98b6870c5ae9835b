package informed

import (
	"testing"

	"github.com/neuroseal/neuroseal/internal/testspace"
)

// TestMain gives the tests room.
func TestMain(m *testing.M) {
	testspace.Take()
	m.Run()
}
