// Command gentext writes the demo's training text to standard output.
//
//	go run ./internal/demo/gentext -domain tales -seed 1 -bytes 4000000 > tales.txt
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/demo/text"
)

func main() {
	domain := flag.String("domain", "tales", "what to write: "+strings.Join(text.Domains(), ", "))
	seed := flag.Uint64("seed", 1, "same seed, same text")
	size := flag.Int("bytes", 1_000_000, "length of the text")
	flag.Parse()

	if err := run(*domain, *seed, *size, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "gentext: error:", err)
		os.Exit(1)
	}
}

func run(domain string, seed uint64, size int, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: everything is set by flags", rest[0])
	case !slices.Contains(text.Domains(), domain):
		return fmt.Errorf("unknown domain %q: choose one of %s", domain, strings.Join(text.Domains(), ", "))
	case size < 0:
		return fmt.Errorf("cannot write %d bytes", size)
	}
	_, err := os.Stdout.Write(text.Generate(domain, seed, size))
	return err
}
