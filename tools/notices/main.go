// Command notices prints the licences of the modules that are linked into the
// command, which ask to go with every copy of it, and those of Go itself.
//
//	go run ./tools/notices                     prints them
//	go run ./tools/notices -check FILE BINARY…  fails if a binary holds a module of which FILE has none
//
// What is linked on any platform of a release is in, so that all archives hold
// the same text. The same modules give the same bytes.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	check := flag.String("check", "", "compare the notices in `FILE` with what binaries say that they hold")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: notices [-check FILE BINARY …]")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	switch {
	case *check != "" && flag.NArg() > 0:
		err = compare(*check, flag.Args())
	case *check == "" && flag.NArg() == 0:
		err = printAll(os.Stdout)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

func printAll(w io.Writer) error {
	list, err := linked(".", "./cmd/neuroseal")
	if err != nil {
		return err
	}
	text, err := render(list)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
