package onnx

import (
	"bytes"
	"fmt"
	"math/rand"
	"runtime"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestZZ(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	sites := map[string]int{}
	ok := 0
	for range 400000 {
		data := make([]byte, 20+r.Intn(120))
		r.Read(data)
		func() {
			defer func() {
				if e := recover(); e != nil {
					pc := make([]uintptr, 40)
					n := runtime.Callers(2, pc)
					fr := runtime.CallersFrames(pc[:n])
					var s []string
					for {
						f, more := fr.Next()
						if strings.Contains(f.File, "/work/main/") && len(s) < 4 {
							s = append(s, fmt.Sprintf("%s:%d", f.File[len("/work/main/"):], f.Line))
						}
						if !more {
							break
						}
					}
					sites[fmt.Sprint(e)+" "+strings.Join(s, " < ")]++
				}
			}()
			model := (&script{data}).random()
			m := &Model{files: []dataFile{{name: "model.onnx", size: int64(len(model)), r: bytes.NewReader(model)}}}
			if err := m.read(func(string) (dataFile, error) { return dataFile{}, fault.New(fault.Unsupported, "no") }); err != nil {
				t.Fatal(err)
			}
			if _, _, err := m.Graph(Options{Tokens: 3}); err == nil {
				ok++
			}
		}()
	}
	t.Log("ok", ok)
	for s, n := range sites {
		t.Log(n, s)
	}
}
