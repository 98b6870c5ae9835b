package trace_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/trace"
)

func BenchmarkTrace(b *testing.B) {
	dir := b.TempDir()
	key := keys.SealKey{1, 2, 3}
	dst := filepath.Join(dir, "s")
	m := "../internal/demo/model"
	res, err := neuroseal.Lock(context.Background(), neuroseal.LockOptions{Source: m, Output: dst, Profile: "max", Key: key, NoCard: true})
	if err != nil {
		b.Fatal(err)
	}
	reg, _, _ := trace.OpenRegistry(filepath.Join(dir, "r"), true)
	for i := range 100 {
		k := key
		k[4] = byte(i)
		man := *res.Manifest
		man.SealID = fmt.Sprintf("%016x", i)
		man.Sign(k)
		if _, err := reg.Add(fmt.Sprint("partner ", i), k, nil, &man, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := trace.Trace(context.Background(), trace.Options{Leaked: dst, Original: m, Registry: reg}); err != nil {
			b.Fatal(err)
		}
	}
}
