package hub

import (
	"os"
	"testing"

	"github.com/neuroseal/neuroseal/internal/testspace"
)

// TestMain gives the tests room.
func TestMain(m *testing.M) {
	testspace.Take()
	os.Exit(m.Run())
}
