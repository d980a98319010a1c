// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title A contract whose code is data
/// @dev The code begins with STOP, so a call of the contract does nothing.
contract CodeRecordData {
    constructor(bytes memory data) {
        bytes memory code = bytes.concat(hex"00", data);
        assembly ("memory-safe") {
            return(add(code, 0x20), mload(code))
        }
    }
}

/// @title Data that are written once, as the code of a contract
/// @notice A byte costs 200 gas as code, and 691 gas as a word of storage. Each record costs another 32,000 gas.
library CodeRecord {
    /// @dev Stores the data; returns the address of the record.
    function write(bytes memory data) internal returns (address record) {
        return address(new CodeRecordData(data));
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
