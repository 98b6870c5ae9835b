module github.com/neuroseal/neuroseal

go 1.26
