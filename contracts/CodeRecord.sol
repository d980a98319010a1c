// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Data that are written once, as the code of a contract
/// @notice A byte costs 200 gas in code, and 691 gas in a new word of storage. Each record costs another 32,000 gas.
/// @dev The code begins with STOP, so a call of the contract does nothing.
library CodeRecord {
    /// @dev Instructions that return the bytes after them as the code: PUSH1 11, MSIZE, DUP2, CODESIZE, SUB, DUP1,
    /// SWAP3, MSIZE, CODECOPY, RETURN. Then the code begins with STOP.
    bytes12 private constant CREATION = 0x600b5981380380925939f300;

    /// @dev Stores the data; returns the address of the record.
    function write(bytes memory data) internal returns (address record) {
        bytes memory creation = abi.encodePacked(CREATION, data);
        assembly ("memory-safe") {
            record := create(0, add(creation, 0x20), mload(creation))
            // Too little gas, or more code than the chain allows: neither has a reason in the answer.
            if iszero(record) {
                revert(0, 0)
            }
        }
    }

    /// @dev Returns the bytes of a record from `start` on. Bytes after the end are zero.
    function read(address record, uint256 start, uint256 length) internal view returns (bytes memory data) {
        data = new bytes(length);
        assembly ("memory-safe") {
            extcodecopy(record, add(data, 0x20), add(start, 1), length)
        }
    }

    /// @dev Returns the number of bytes of a record.
    function size(address record) internal view returns (uint256) {
        return record.code.length - 1;
    }
}
