//go:build !linux

package testspace

func inMemory() string { return "" }
